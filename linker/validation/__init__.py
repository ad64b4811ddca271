"""What people type and paste, read strictly."""

from linker.validation.subdomain import parse_subdomain
from linker.validation.token import parse_expiry, parse_token

__all__ = ["parse_expiry", "parse_subdomain", "parse_token"]
