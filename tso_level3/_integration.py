"""Entry points of stpipe and asdf: strings only, so that discovery imports nothing."""

from importlib.resources import files

_SCHEMAS = "https://tso-level3.readthedocs.io/schemas/"


def get_steps() -> list[tuple[str, str, bool]]:
    """Name the steps for stpipe.

    Returns
    -------
    list of (str, str, bool)
        Full class name, alias, and whether the class is a pipeline.
    """
    return [
        ("tso_level3.TSOPhotometryStep", "tso_level3_photometry", False),
        ("tso_level3.TSOLevel3Pipeline", "tso_level3", True),
    ]


def get_resource_mappings() -> list:
    """Give asdf the schema of the product.

    Returns
    -------
    list of mapping
        Schema address to its bytes.
    """
    from asdf.resource import DirectoryResourceMapping

    return [
        DirectoryResourceMapping(
            files("tso_level3") / "product" / "schemas",
            _SCHEMAS,
            filename_pattern="*.yaml",
            stem_filename=True,
        )
    ]
