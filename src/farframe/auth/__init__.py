"""Who is it: access tokens (issue and verify), account keys, one-time codes and the own certificate authority.

Used by the control plane and, for verification, by the render servers. It must not know accounts' rows or HTTP.
"""
