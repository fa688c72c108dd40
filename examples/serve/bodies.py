"""What a client may send, and what it gets: JSON of these forms and sizes, nothing else."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

MOST_BYTES, MOST_USERS, MOST_ITEMS, MOST_CLICKS = 2**20, 100, 10_000, 1_000
MOST_COLUMNS, MOST_PAIRS = 200, 100_000  # of rows; of a user and an item

Name = Annotated[str, Field(min_length=1, max_length=200)]


def plain(value: object) -> object:
    """A feature as it is given, if it is one."""
    entries = value if isinstance(value, list) else [value]
    if len(entries) > MOST_CLICKS:
        raise ValueError(f"List should have at most {MOST_CLICKS:,} entries")
    for entry in entries:
        is_text = isinstance(entry, str) and len(entry) <= 10_000
        is_number = type(entry) in (int, float) and abs(entry) <= 1e30
        if not (entry is None or is_text or is_number):
            raise ValueError("A feature is a text, a number up to 1e30, null or a list of them")
    return value


Entry = str | float | None
Feature = Annotated[Any, PlainValidator(plain, json_schema_input_type=Entry | list[Entry])]
Features = dict[Name, Feature]


def few_columns(rows: list[Features]) -> list[Features]:
    """The rows, if a table of them is not much larger than they are."""
    columns = len(set().union(*rows))
    if columns > MOST_COLUMNS:
        raise ValueError(f"Rows should have at most {MOST_COLUMNS} columns, not {columns:,}")
    return rows


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Asked(Body):
    """Users, and what is known of them beside the run; see `Ranker.score`."""

    users: Annotated[list[Name], Field(min_length=1, max_length=MOST_USERS)]
    histories: dict[Name, Annotated[list[Name], Field(max_length=MOST_CLICKS)]] = {}
    append: bool = False
    user_features: dict[Name, Features] = {}
    context: Features = {}


class ScoreRequest(Asked):
    items: Annotated[list[Name], Field(min_length=1, max_length=MOST_ITEMS)]


class RowsRequest(Body):
    """Rows as in the run's .inter file: user, item, features, possibly time and history."""

    rows: Annotated[
        list[Features], Field(min_length=1, max_length=MOST_ITEMS), AfterValidator(few_columns)
    ]
    user_features: dict[Name, Features] = {}


class RecommendRequest(Asked):
    k: Annotated[int, Field(ge=1, le=1_000)] = 10
    candidates: Annotated[int, Field(ge=1, le=MOST_ITEMS)] | None = None
    exclude_seen: bool = True


class Scores(BaseModel):
    """Click probabilities of each user's items; `warnings` say what was left out or is unknown."""

    scores: list[list[float]]
    warnings: list[str]


class RowScores(BaseModel):
    scores: list[float]
    warnings: list[str]


class Recommendation(BaseModel):
    user: str
    rank: int
    item: str
    probability: float
    text: str | None = None


class Recommendations(BaseModel):
    recommendations: list[Recommendation]
    warnings: list[str]


class Refusal(BaseModel):
    error: str
