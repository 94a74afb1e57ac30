"""The control plane: tokens, sessions, uploads, links, the handshake relay and the web pages, over HTTP.

It leases render servers from a fleet and keeps its books in the store. It must not know SQL, must not render, and
nothing imports it: other processes use it over HTTP.
"""
