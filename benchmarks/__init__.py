"""Run and measure methods: command line, settings, training loop, records."""
