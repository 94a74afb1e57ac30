"""One module a version; each is final once released."""
