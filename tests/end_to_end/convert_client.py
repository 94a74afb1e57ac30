"""What an application does to convert with the official SDK, run as a process of its own.

The environment tells where the service is and which root to trust; it must be set before the SDK's transports load.
"""

from __future__ import annotations

import json
import os

ENDPOINT = os.environ["SDK_ENDPOINT"]


def main() -> None:
    from azure.core.credentials import AzureKeyCredential
    from azure.core.exceptions import HttpResponseError
    from azure.mixedreality.remoterendering import (
        AssetConversionInputSettings,
        AssetConversionOutputSettings,
        RemoteRenderingClient,
    )

    client = RemoteRenderingClient(
        endpoint=ENDPOINT,
        account_id=os.environ["SDK_ACCOUNT"],
        account_domain="localhost",
        credential=AzureKeyCredential(os.environ["SDK_KEY"]),
        authentication_endpoint_url=ENDPOINT,
        polling_interval=0.2,
    )
    for wanted in json.loads(os.environ["SDK_CONVERSIONS"]):
        source, target = wanted["source"], wanted["target"]
        try:
            poller = client.begin_asset_conversion(
                wanted["id"],
                input_settings=AssetConversionInputSettings(**source),
                output_settings=AssetConversionOutputSettings(**target),
            )
            conversion = poller.result()
        except HttpResponseError as error:
            told = {"code": error.error.code, "message": error.error.message, "status": error.status_code}
        else:
            told = {"uri": conversion.output.asset_uri, "status": str(conversion.status)}
        print(json.dumps({"id": wanted["id"], **told}), flush=True)


if __name__ == "__main__":
    main()
