"""The service as it is, on servers that only speak the link: ``python stub_service.py``, configured by environment.

With ``FARFRAME_TEST_STAND_IN`` its conversions are those of :mod:`tests.convert.stand_in`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from farframe.auth.certificates import CertificateFiles
from farframe.fleet.local import LocalFleetConfig
from farframe.service import __main__ as service
from farframe.service.config import ServiceConfig

STUB = Path(__file__).parents[1] / "fleet" / "fake_server.py"
_fleet_config = service.fleet_config


def fleet_config(config: ServiceConfig, files: CertificateFiles, token_keys: str) -> LocalFleetConfig:
    return replace(
        _fleet_config(config, files, token_keys),
        command=(sys.executable, str(STUB), "good"),
        replenish_delay_seconds=0.2,
    )


if __name__ == "__main__":
    service.fleet_config = fleet_config
    if os.environ.get("FARFRAME_TEST_STAND_IN"):
        from tests.convert import stand_in

        service.ConversionWorkers = partial(service.ConversionWorkers, job_command=stand_in.JOB)  # type: ignore[misc,assignment]
    sys.exit(service.main())
