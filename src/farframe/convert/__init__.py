"""The conversion of designers' files into assets that render at any size.

importers (by format) -> overrides, axis, scale (pipeline) -> clusters and pages (build) -> ``.arrAsset``, info, result.

This room knows files in folders and models in memory. It must not know where the files came from (the service and its
workers fetch and upload), nor anything of sessions, tokens or devices.
"""
