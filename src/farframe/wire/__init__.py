"""The REST contract as data: session objects, ids, times, API versions and the error tree.

This room knows the exact member names, their order and when they are absent. It must not do any I/O, must not know the
store's rows and must not import the web framework, so that clients can use it as well.
"""
