"""Small files in the layout of other published datasets, each with the arguments that prepare it.

Each function writes ``rows`` interactions of ``users`` users and ``items`` items, and descriptions
of one item and one user more.
"""

from raw_files import write_lines


def _events(rows, users, items):
    """(user, item, number of the row, a number from 0 to 9 that looks random), no pair twice in a
    day.
    """
    for row in range(rows):
        user = row % users
        yield user, (row // users * 7 + user * 3) % items, row, (row * 7919 + user) % 97 % 10


def amazon_2018(folder, rows=120, users=20, items=12, as_csv=False):
    reviews = [
        {
            "overall": float(1 + pick % 5),
            "verified": True,
            "reviewTime": "07 20, 2016",
            "reviewerID": f"A{user:013}",
            "asin": f"B{item:09}",
            "style": {"Color:": " Black"},
            "reviewerName": "a name",
            "reviewText": "Good,\tfair",
            "summary": "s",
            "unixReviewTime": 1_469_000_000 + row * 86_400,
        }
        for user, item, row, pick in _events(rows, users, items)
    ]
    names = ("asin", "reviewerID", "overall", "unixReviewTime")
    lines = [",".join(str(review[name]) for name in names) for review in reviews]
    metadata = [
        {
            "category": ["Electronics", f"<span>Audio &amp; Video {item % 3}</span>", "</span>"],
            "tech1": "",
            "description": [f"Loud speaker {item}.", ""],
            "fit": "",
            "title": f"Speaker &amp; <b>amplifier</b> {item}",
            "also_buy": ["B000000001"],
            "tech2": "",
            "brand": "Sony",
            "feature": ["Two channels", "Black"],
            "rank": [">#1 in Electronics (See top 100)"],
            "also_view": [],
            "details": {"\n    Product Dimensions: \n    ": "2 inches"},
            "main_cat": '<img src="x.png" class="nav" alt="Home Audio"/>',
            "similar_item": "",
            "date": "",
            "price": "$1,012.99",
            "asin": f"B{item:09}",
            "imageURL": [],
        }
        for item in range(items + 1)
    ]
    return {
        "format": "amazon-2018",
        "interactions": write_lines(folder / "reviews", lines if as_csv else reviews),
        "meta": write_lines(folder / "meta_Electronics.json.gz", metadata, zipped=True),
    }


LOG_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,"
    "long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,"
    "tab"
)
VIDEO_HEADER = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,"
    "server_height,music_id,music_type,tag"
)
USER_HEADER = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,"
    "follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,"
    "friend_user_num_range,register_days,register_days_range,"
    + ",".join(f"onehot_feat{number}" for number in range(18))
)
CATEGORY_HEADER = "final_video_id," + ",".join(
    f"{level}_level_category_{what}"
    for level in ("first", "second", "third", "fourth")
    for what in ("id", "name", "prob")
)


def kuairand(folder, rows=120, users=20, items=12, version="pure", with_categories=True):
    logs = [
        f"{user},{item},20220421,{pick}30,{1_650_485_801_301 + row * 997},{int(pick < 4)},"
        f"{int(pick == 1)},0,0,0,0,{int(pick < 2)},{pick * 1000},10400,0,0,0,0,{pick % 3}"
        for user, item, row, pick in _events(rows, users, items)
    ]
    half = rows // 2
    data = folder / "KuaiRand" / "data"
    for name, lines in (
        ("log_standard_4_08_to_4_21", logs[:half]),
        ("log_standard_4_22_to_5_08", logs[half:]),
        ("log_random_4_22_to_5_08", [line[:-3] + "1,0" for line in logs[:7]]),
    ):
        write_lines(data / f"{name}_{version}.csv", [LOG_HEADER, *lines])
    videos = [
        f"{item},{item % 5},NORMAL,2020-07-08,ShortImport,1.0,17200.0,720.0,1280.0,989206467{item},"
        f'4.0,"12,{item % 4}"'
        for item in range(items)
    ]
    videos.append(f"{items},7,AD,,Web,,,,,,,")
    write_lines(data / f"video_features_basic_{version}.csv", [VIDEO_HEADER, *videos])
    write_lines(data / f"video_features_statistic_{version}.csv", ["video_id,counts", "0,1"])
    described = [
        f'{user},full_active,0,0,1,5,"(0,10]",312,"[100,1k)",0,0,3624,730+,'
        + ",".join(["1", "2", "2", "1153", "4.0", "", *["0"] * 12])
        for user in range(users + 1)
    ]
    write_lines(data / f"user_features_{version}.csv", [USER_HEADER, *described])
    names = [("Music", "Pop"), ("Food, drink", "Tea"), ("Pets", "Cats")]
    categories = [
        f'{item},1.0,"{names[item % 3][0]}",0.9,2.0,{names[item % 3][1]},0.8'
        + ",-124.0,UNKNOWN,0.0" * 2
        for item in range(items + 1)
    ]
    arguments = {"format": "kuairand", "input": folder / "KuaiRand"}
    if with_categories:
        file = folder / "kuairand_video_categories.csv"
        arguments["meta"] = write_lines(file, [CATEGORY_HEADER, *categories])
    return arguments


def _literal(record):
    """A dict as Python 2 printed it: ``{u'username': u'Chaos Syren', u'hours': 0.1}``."""

    def shown(value):
        if isinstance(value, list):
            return f"[{', '.join(map(shown, value))}]"
        return f"u{ascii(value)}" if isinstance(value, str) else repr(value)

    return f"{{{', '.join(f'u{key!r}: {shown(value)}' for key, value in record.items())}}}"


def steam(folder, rows=120, users=20, items=12):
    reviews = []
    for user, item, row, pick in _events(rows, users, items):
        review = {
            "username": f"Chaos Syren {user}",
            "hours": pick / 2,
            "products": 41,
            "product_id": str(725_280 + item),
            "page_order": 0,
            "date": f"20{12 + row // 28 // 12:02}-{1 + row // 28 % 12:02}-{1 + row % 28:02}",
            "text": "This would not be acceptable, it's \"bad\"\n\t{'hours': 9} \U0001f600",
            "early_access": user == 1,
            "page": 1,
        }
        if row % 3 == 0:
            review |= {"compensation": "Product received for free", "user_id": f"7656{user}"}
        if review["hours"] == 0:
            del review["hours"]
        reviews.append(_literal(review))
    games = [
        {
            "publisher": "Kotoshiro",
            "genres": ["Action", "Free to Play", "Design &amp; Illustration"][: 1 + item % 3],
            "app_name": f"Lost Summoner Kitty {item}",
            "title": f"Lost Summoner Kitty {item}",
            "url": f"http://store.steampowered.com/app/{725_280 + item}/",
            "release_date": "2018-01-04",
            "tags": ["Strategy", "Turn-Based"],
            "sentiment": "Mostly Positive",
            "reviews_url": "http://steamcommunity.com",
            "specs": ["Single-player"],
            "price": 4.99 if item else "Free To Play",
            "early_access": False,
            "id": str(725_280 + item),
            "developer": f"Kotoshiro's {item % 4}",
        }
        for item in range(items + 1)
    ]
    return {
        "format": "steam",
        "interactions": write_lines(folder / "steam_reviews.json.gz", reviews, zipped=True),
        "meta": write_lines(folder / "steam_games.json.gz", map(_literal, games), zipped=True),
    }


def taobao(folder, rows=120, users=20, items=12):
    behaviours = ("pv", "pv", "cart", "pv", "buy", "pv", "fav", "pv", "pv", "pv")
    lines = [
        f"{user},{2_268_318 + item},{2_520_377 + item % 4},{behaviours[pick]},"
        f"{1_511_544_070 + row * 60}"
        for user, item, row, pick in _events(rows, users, items)
    ]
    return {"format": "taobao", "interactions": write_lines(folder / "UserBehavior.csv", lines)}


def yelp(folder, rows=120, users=20, items=12):
    reviews = [
        {
            "review_id": f"KU_O5udG6zpxOg-{row}",
            "user_id": f"mh_-eMZ6K5RLWhZyISBh{user}",
            "business_id": f"XQfwVwDr-v0ZS3_CbbE{item}",
            "stars": float(1 + pick % 5),
            "useful": 0,
            "funny": 0,
            "cool": 0,
            "text": "If you decide to eat here,\n\tbe aware",
            "date": f"2018-07-{1 + row // 240 % 28:02} {row // 60 % 4:02}:{row % 60:02}:11",
        }
        for user, item, row, pick in _events(rows, users, items)
    ]
    businesses = [
        {
            "business_id": f"XQfwVwDr-v0ZS3_CbbE{item}",
            "name": f"Turning Point {item}",
            "address": "1460 Bethlehem Pike",
            "city": "North Wales",
            "state": "PA",
            "postal_code": "19454",
            "latitude": 40.2101961875,
            "longitude": -75.2236385919,
            "stars": 3.0,
            "review_count": 169,
            "is_open": 1,
            "attributes": {"NoiseLevel": "u'average'"},
            "categories": ["Restaurants, Food", "Cafes, Tea Rooms", None][item % 3],
            "hours": None,
        }
        for item in range(items + 1)
    ]
    described = [
        {
            "user_id": f"mh_-eMZ6K5RLWhZyISBh{user}",
            "name": "Karen",
            "review_count": 79,
            "yelping_since": "2007-01-25 16:47:26",
            "elite": "2007",
            "friends": "NSCy54eWehBJyZdG2iE84w, pe42u7DcCH2QmI81NX-8qA",
            "average_stars": 3.91,
        }
        for user in range(users + 1)
    ]
    name = "yelp_academic_dataset_{}.json"
    return {
        "format": "yelp",
        "interactions": write_lines(folder / name.format("review"), reviews),
        "meta": write_lines(folder / name.format("business"), businesses),
        "users": write_lines(folder / name.format("user"), described),
    }


PUBLISHED = {
    "amazon-2018": amazon_2018,
    "kuairand": kuairand,
    "steam": steam,
    "taobao": taobao,
    "yelp": yelp,
}
