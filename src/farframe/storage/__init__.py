"""Where models come from: a URI is parsed, classified, checked against what the operator allows, and fetched to disk.

This room alone reads what a device's URI names. It knows nothing of what is in the files beyond the names of those
that belong together, and it must not read anything that its policy does not allow.
"""
