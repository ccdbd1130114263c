"""Google Cloud: the function and the outputs that need its SDKs."""
