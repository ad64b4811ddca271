"""What people type and paste, read strictly."""

from linker.inputs.subdomain import parse_subdomain
from linker.inputs.token import parse_token

__all__ = ["parse_subdomain", "parse_token"]
