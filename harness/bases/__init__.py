"""How base models are loaded that are no plain matrices on one device: quantised, or spread over several."""
