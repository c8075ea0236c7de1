"""Puts gin files and the parts of the pages into the package; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mt3*"]), "mt3.configs", "mt3.configs.parts"],
    package_dir={"mt3.configs": "configs", "mt3.configs.parts": "configs/parts"},
    package_data={
        "mt3.configs": ["*.gin"],
        "mt3.configs.parts": ["*.gin"],
        "mt3.evaluation.report_page": ["assets/*"],
        "mt3.web": ["assets/*"],
    },
)
