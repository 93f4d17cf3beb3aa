"""The shared vocabulary: frames, tracks, forecasts, spans, clocks, configuration and the runner."""
