"""Training of every model: `loop.fit` is shared, each other module is one recipe with a command line."""
