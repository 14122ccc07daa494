"""The three classifiers of Spark's ML library."""

from collections.abc import Mapping
from typing import Any

import models
import numpy as np
from pyspark.ml.classification import GBTClassifier, LogisticRegression, RandomForestClassifier
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as sql

SEED = 1
CLASSIFIERS = ("logistic_regression", "random_forest", "gradient_boosted_trees")
LABEL, VECTOR = "popular", "features"

Array = np.ndarray[Any, Any]


def classifiers() -> dict[str, Any]:
    """Return the classifiers; each writes its answers into columns of its own, so one query asks all of them."""
    kinds = (
        LogisticRegression(maxIter=20, regParam=1e-4),
        RandomForestClassifier(numTrees=20, maxDepth=5, seed=SEED),
        GBTClassifier(maxIter=12, maxDepth=4, seed=SEED),
    )
    for name, kind in zip(CLASSIFIERS, kinds, strict=True):
        kind.setFeaturesCol(VECTOR).setLabelCol(LABEL).setPredictionCol(f"{name}_prediction")
        kind.setRawPredictionCol(f"{name}_raw").setProbabilityCol(f"{name}_probability")
    return dict(zip(CLASSIFIERS, kinds, strict=True))


def with_vectors(table: DataFrame, names: tuple[str, ...]) -> DataFrame:
    """Return the table with its features as the vectors that Spark's classifiers take."""
    return VectorAssembler(inputCols=list(names), outputCol=VECTOR).transform(table)


def predict(models: Mapping[str, Any], rows: DataFrame, keep: list[str]) -> dict[str, Array]:
    """Return some columns of these rows, and by each model the probability that they are popular."""
    for model in models.values():
        rows = model.transform(rows)
    answers = [vector_to_array(f"{name}_probability")[1].alias(name) for name in models]
    found = rows.select(*keep, *answers).toArrow()
    return {name: found.column(name).to_numpy() for name in found.column_names}


def as_numbers(trained: Mapping[str, Any], rows: DataFrame) -> dict[str, models.Model]:
    """Return models as plain numbers, with the help of the rows that they have learned from."""
    regression, forest, boosted = (trained[name] for name in CLASSIFIERS)
    found = (
        models.of_regression(regression),
        models.of_forest(forest, _leaves(forest, rows)),
        models.of_boosted(boosted),
    )
    return dict(zip(CLASSIFIERS, found, strict=True))


def _leaves(forest: Any, rows: DataFrame) -> list[list[float]]:
    """Return the probabilities of each tree's leaves, from left to right: some row that was learned is in each."""
    trees = forest.trees
    for number, tree in enumerate(trees):
        tree.setLeafCol(f"leaf_{number}").setProbabilityCol(f"probability_{number}")
        rows = tree.setRawPredictionCol(f"raw_{number}").setPredictionCol(f"prediction_{number}").transform(rows)
    places = [
        sql.struct(
            sql.lit(n).alias("tree"),
            sql.col(f"leaf_{n}").alias("leaf"),
            vector_to_array(f"probability_{n}")[1].alias("probability"),
        )
        for n in range(len(trees))
    ]
    found = rows.select(sql.explode(sql.array(*places)).alias("it")).select("it.*").distinct().toArrow()
    leaves: list[list[float]] = [[] for _ in trees]
    for tree, _, value in sorted(zip(*found.to_pydict().values(), strict=True)):
        leaves[tree].append(value)
    return leaves
