"""The methods: one file is one method; `base` is the contract."""
