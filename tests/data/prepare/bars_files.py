"""Small files in the layout of BARS' datasets, and facts of BARS that fit them."""

import functools
import hashlib

import yaml

from recbole_genci.config import properties_folder
from recbole_genci.data.prepare import bars


def frappe(rows=60):
    head = "label,user,item,daytime,weekday,isweekend,homework,cost,weather,country,city"
    lines = [
        f"{int(r % 3 == 0)},{r % 7},{9 + r % 5},{14},{r % 2 + 15},17,18,{19 + r % 3},21,22,23"
        for r in range(rows)
    ]
    return {
        "train.csv": [head, *lines],
        "valid.csv": [head, *lines[:20]],
        "test.csv": [head, *lines[5:30]],
    }


def movielens(rows=60):
    head = "label,user_id,item_id,tag_id"
    lines = [f"{int(r % 3 == 0)},{r % 7},{9 + r % 5},{14 + r % 4}" for r in range(rows)]
    return {
        "train.csv": [head, *lines],
        "valid.csv": [head, *lines[:20]],
        "test.csv": [head, *lines[5:30]],
    }


def kuaivideo(rows=60):
    head = "timestamp,user_id,item_id,is_click,is_like,is_follow,pos_items,neg_items"
    lines = [
        f"{1000 + r},{r % 5},{r % 9},{int(r % 3 == 0)},0,0,{'^'.join(map(str, range(r % 4)))},{r}"
        for r in range(rows)
    ]
    return {"train.csv": [head, *lines[:40]], "test.csv": [head, *lines[40:]]}


def amazon(users=12, reviews=6):
    """As in BARS: a positive and a negative row for each review but a user's first one."""
    head = "label,user_id,item_id,cate_id,item_history,cate_history"
    train, test = [], []
    for user in range(users):
        items = [(user * 3 + number) % 17 for number in range(reviews)]
        for number in range(1, reviews):
            history = "^".join(str(item) for item in items[:number])
            cates = "^".join(str(item % 4) for item in items[:number])
            for label, item in ((1, items[number]), (0, (items[number] + 5) % 17)):
                line = f"{label},{user},{item},{item % 4},{history},{cates}"
                (test if number == reviews - 1 else train).append(line)
    return {"train.csv": [head, *train], "test.csv": [head, *test]}


def taobao(rows=60):
    head = (
        "clk,btag_his,cate_his,brand_his,userid,cms_segid,cms_group_id,final_gender_code,age_level,"
        "pvalue_level,shopping_level,occupation,new_user_class_level,adgroup_id,cate_id,"
        "campaign_id,customer,brand,price,pid,btag"
    )
    lines = [
        f"{int(r % 3 == 0)},1^2,{r % 4}^5,7,{r % 6},1,2,1,3,0,{r % 3},0,1,{r % 8},{r % 4},11,12,"
        f"{r % 5},{r * 1.5},430548_1007,1"
        for r in range(rows)
    ]
    return {"train.csv": [head, *lines[:40]], "test.csv": [head, *lines[40:]]}


def criteo(rows=60):
    head = "Label," + ",".join([f"I{n}" for n in range(1, 14)] + [f"C{n}" for n in range(1, 27)])
    lines = []
    for r in range(rows):
        numbers = ["", "-1", "0", "2", "3", str(r * 100), *["1"] * 7]
        tokens = ["" if n == r % 26 else f"{(r * n) % 7:08x}" for n in range(26)]
        lines.append(",".join([str(int(r % 3 == 0)), *numbers, *tokens]))
    return {
        "train.csv": [head, *lines[:40]],
        "valid.csv": [head, *lines[40:50]],
        "test.csv": [head, *lines[50:]],
    }


def avazu(rows=60):
    head = (
        "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,"
        "app_category,device_id,device_ip,device_model,device_type,device_conn_type,C14,C15,C16,"
        "C17,C18,C19,C20,C21"
    )
    lines = [
        f"{10**18 + r},{int(r % 3 == 0)},1410{21 + r % 9}{r % 24:02d},1005,{r % 2},"
        + ",".join(f"{(r * n) % 5:x}" for n in range(19))
        for r in range(rows)
    ]
    return {
        "train.csv": [head, *lines[:40]],
        "valid.csv": [head, *lines[40:50]],
        "test.csv": [head, *lines[50:]],
    }


SETS = {
    "Frappe_x1": frappe,
    "MovielensLatest_x1": movielens,
    "KuaiVideo_x1": kuaivideo,
    "AmazonElectronics_x1": amazon,
    "TaobaoAd_x1": taobao,
    "Criteo_x4": criteo,
    "Avazu_x4": avazu,
}


def write_set(name, folder):
    """Write the files of a dataset; returns their contents by name."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {}
    for file, lines in SETS[name]().items():
        contents[file] = "".join(f"{line}\n" for line in lines).encode()
        (folder / file).write_bytes(contents[file])
    return contents


@functools.cache
def facts():
    """What ``properties/bars.yaml`` says."""
    return yaml.safe_load((properties_folder() / "bars.yaml").read_text())


def publish(name, contents, monkeypatch, tmp_path, hosts=None):
    """Let the facts of BARS be those of these files, and of no other dataset."""
    parts = {
        file.removesuffix(".csv"): {
            "md5": hashlib.md5(content).hexdigest(),
            "rows": content.count(b"\n") - 1,
        }
        for file, content in contents.items()
    }
    table = {
        "hosts": hosts or facts()["hosts"],
        "models": facts()["models"],
        "datasets": {name: facts()["datasets"][name] | {"parts": parts}},
    }
    file = tmp_path / "bars.yaml"
    file.write_text(yaml.safe_dump(table, sort_keys=False))
    monkeypatch.setattr(bars, "bars_file", lambda: file)
