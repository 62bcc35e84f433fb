"""A configuration in, a run directory out: the thin subclass of LightningCLI, fit, test, predict, callbacks."""
