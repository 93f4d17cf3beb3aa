"""Motion predictors and the latency monitor: where a target will be when the answer is used."""
