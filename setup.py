"""What pyproject.toml cannot say: where the packages lie."""

from setuptools import find_packages, setup

setup(
    # properties/ stands at the top level of a checkout and inside the package of a wheel.
    packages=[
        *find_packages(include=["recbole_genci", "recbole_genci.*"]),
        "recbole_genci.properties",
    ],
    package_dir={"recbole_genci.properties": "properties"},
    package_data={
        "recbole_genci": ["py.typed", "*.pyi"],
        "recbole_genci.properties": ["*.yaml", "*/*.yaml", "*/*/*.yaml", "semantic_ids/*/*"],
        "recbole_genci.experiments": ["paper.yaml"],
        "recbole_genci.webpage": ["page.css", "page.js"],
    },
)
