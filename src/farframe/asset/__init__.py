"""Models: what they are in memory, how they are read, simplified, stored flat and loaded in a sandboxed process.

This room turns hostile bytes into a :class:`farframe.asset.model.Model` or into a typed error. It must not know what
a scene, a GPU or a connection is, and it must not fetch anything: a path on the local disk goes in.
"""
