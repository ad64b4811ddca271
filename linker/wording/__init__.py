"""What people read: texts by key, one catalogue for each language, and what a problem or an error says in it.

Nothing else in this library holds words for its readers: what is stored, decided and raised is a code with parameters.
English is complete; what another language lacks is said in English.
"""

from linker.wording.catalogue import Catalogue, catalogue
from linker.wording.describe import Describable, Words, describe

__all__ = ["Catalogue", "Describable", "Words", "catalogue", "describe"]
