"""Differentiable optics in torch: propagation, pupils, illumination, forward models, sensor."""
