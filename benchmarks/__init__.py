"""How a method is run and measured: configuration, loop, clock, record, command line."""
