"""Prompt Diffusion, in-context learning by a ControlNet."""
