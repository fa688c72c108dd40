"""A person's own models and metrics, by reference: ``module:Name`` or ``path/to/file.py:Name``.

The command line takes references, and a run's folder keeps them so that the code can be found
again. Importing a reference runs its code. A run's folder may come from a stranger, so its
references are imported only with permission: code that reads such a folder first calls
``permitted_model``.
"""

from recbole_genci.utils.own_code.digest import source_digest
from recbole_genci.utils.own_code.errors import (
    OwnCodeFailed,
    described,
    errors_in_words,
    errors_of_own,
)
from recbole_genci.utils.own_code.importing import add_search_folders, load_object, search_folders
from recbole_genci.utils.own_code.permission import own_references, permitted_model
from recbole_genci.utils.own_code.references import (
    is_importable,
    is_known,
    is_reference,
    name_of,
    reference_of,
)
from recbole_genci.utils.own_code.sources import (
    is_of_a_library,
    is_own,
    mentions,
    places_of,
    source_file,
)

__all__ = [
    "OwnCodeFailed",
    "add_search_folders",
    "described",
    "errors_in_words",
    "errors_of_own",
    "is_importable",
    "is_known",
    "is_of_a_library",
    "is_own",
    "is_reference",
    "load_object",
    "mentions",
    "name_of",
    "own_references",
    "permitted_model",
    "places_of",
    "reference_of",
    "search_folders",
    "source_digest",
    "source_file",
]
