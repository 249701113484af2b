#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares our random forests with scikit-learn's.

    python3 tests/compare_forest.py [build/release/bin/oracle_forest]

A single tree that sees every row and may split by every feature is determined by the data, so both must predict the same
for each of the rows. Forests draw their samples and features at random, each in its own way: both must be as good on rows
that they have not seen, and say so by their errors out of bag. Exit status: 0 all well, 1 a difference, 77 skipped.
"""
import subprocess
import sys

SKIP = 77
TREES = 40  # so many that ours have fewer nodes than they may
passed = failed = 0


def check(name, right, said):
    global passed, failed
    if right:
        passed += 1
        return
    failed += 1
    print("FAILED: %s\n  %s" % (name, said))


try:
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.tree import DecisionTreeRegressor
except ImportError as e:
    print("skipped: %s" % e)
    sys.exit(SKIP)


def grow(program, x, y, test, n_classes=0, n_trees=TREES, max_depth=12, min_leaf=3, mtry=0, bootstrap=True, seed=1):
    """Error out of bag, rows behind it, predictions of the test rows (shares of classes)."""
    head = "%d %d %d %d\n%d %d %d %d %d %d\n" % (n_classes, len(x), x.shape[1], len(test), n_trees, max_depth, min_leaf,
                                                 mtry or x.shape[1], bootstrap, seed)
    rows = "\n".join(" ".join("%.9g" % v for v in row) + " %.17g" % t for row, t in zip(x, y))
    tests = "\n".join(" ".join("%.9g" % v for v in row) for row in test)
    out = subprocess.run([program], input=head + rows + "\n" + tests + "\n", capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit("compare_forest: %s" % out.stderr)
    lines = out.stdout.splitlines()
    _, error, n = lines[0].split()
    predicted = np.array([[float(v) for v in line.split()] for line in lines[1:]])
    return float(error), int(n), predicted if n_classes else predicted[:, 0]


def friedman(rng, n):
    """Friedman (1991), function 1: five of ten features matter; noise of variance 1."""
    x = np.float32(rng.random((n, 10)))
    y = (10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]).astype(float)
    return x, y + rng.normal(size=n)


def single_trees(program):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n, k = int(rng.integers(50, 1500)), int(rng.integers(1, 12))
        x = np.float32(rng.integers(0, 200, (n, k)))  # fewer values than bins, so that none is rounded
        y = rng.normal(size=n) * 10 + x[:, 0] / 20 * (x[:, -1] > 90)
        depth, leaf = int(rng.integers(1, 20)), int(rng.integers(1, 20))
        theirs = DecisionTreeRegressor(max_depth=depth, min_samples_leaf=leaf, random_state=0).fit(x, y).predict(x)
        _, n_oob, ours = grow(program, x, y, x, n_trees=1, max_depth=depth, min_leaf=leaf, bootstrap=False)
        off = np.abs(ours - theirs)
        check("tree %d: %d rows, %d features, depth %d, leaf %d" % (seed, n, k, depth, leaf), off.max() <= 1e-5,
              "%d of %d rows differ, by %g at most" % ((off > 1e-5).sum(), n, off.max()))
        check("tree %d: nothing is out of bag" % seed, n_oob == 0, n_oob)


def r2(y, predicted):
    return 1 - ((y - predicted) ** 2).mean() / y.var()


def leaf_of(min_leaf):
    """scikit-learn counts the different rows of a leaf, we count rows as often as they were drawn: n / (1 - 1/e)."""
    return max(1, round(min_leaf * (1 - np.exp(-1))))


def regression_forests(program):
    for number, (mtry, depth, leaf) in enumerate(((4, 8, 1), (10, 6, 5), (3, 20, 8), (2, 8, 1))):
        rng = np.random.default_rng(100 + number)
        (x, y), (test, truth) = friedman(rng, 1500), friedman(rng, 3000)
        sk = [RandomForestRegressor(TREES, max_depth=depth, min_samples_leaf=leaf_of(leaf), max_features=mtry,
                                    oob_score=True, random_state=seed).fit(x, y) for seed in range(1, 6)]
        ours = [grow(program, x, y, test, max_depth=depth, min_leaf=leaf, mtry=mtry, seed=seed) for seed in range(1, 6)]
        a, b = np.mean([r2(truth, p) for _, _, p in ours]), np.mean([r2(truth, f.predict(test)) for f in sk])
        check("regression %d: held-out R2" % number, abs(a - b) < 0.01, "ours %.4f, theirs %.4f" % (a, b))
        a, b = np.mean([e for e, _, _ in ours]), np.mean([((f.oob_prediction_ - y) ** 2).mean() for f in sk])
        check("regression %d: error out of bag" % number, abs(a / b - 1) < 0.02, "ours %.4f, theirs %.4f" % (a, b))
        check("regression %d: rows out of bag" % number, all(n == len(x) for _, n, _ in ours), [n for _, n, _ in ours])
        off = ((np.mean([p for _, _, p in ours], axis=0) - np.mean([f.predict(test) for f in sk], axis=0)) ** 2).mean()
        check("regression %d: the same function" % number, off < 0.01 * truth.var(), off / truth.var())


def classification_forests(program):
    for number, (mtry, depth) in enumerate(((3, 12), (10, 5), (1, 25))):
        rng = np.random.default_rng(200 + number)
        (x, y), (test, truth) = friedman(rng, 1500), friedman(rng, 3000)
        cuts = np.quantile(y, (0.3, 0.7, 0.9))
        labels, right = np.searchsorted(cuts, y), np.searchsorted(cuts, truth)
        sk = [RandomForestClassifier(TREES, max_depth=depth, min_samples_leaf=leaf_of(5), max_features=mtry, oob_score=True,
                                     random_state=seed).fit(x, labels) for seed in range(1, 6)]
        ours = [grow(program, x, labels, test, n_classes=4, max_depth=depth, min_leaf=5, mtry=mtry, seed=seed)
                for seed in range(1, 6)]
        a, b = np.mean([(p.argmax(axis=1) == right).mean() for _, _, p in ours]), np.mean([f.score(test, right) for f in sk])
        check("classes %d: held-out accuracy" % number, abs(a - b) < 0.01, "ours %.4f, theirs %.4f" % (a, b))
        a, b = np.mean([1 - e for e, _, _ in ours]), np.mean([f.oob_score_ for f in sk])
        check("classes %d: accuracy out of bag" % number, abs(a - b) < 0.01, "ours %.4f, theirs %.4f" % (a, b))
        check("classes %d: shares add up" % number, max(np.abs(p.sum(axis=1) - 1).max() for _, _, p in ours) < 1e-6, "")
        mean = np.mean([p for _, _, p in ours], axis=0), np.mean([f.predict_proba(test) for f in sk], axis=0)
        # the mean of 200 trees: shares of 0.1 to 0.5 deviate by some 0.02
        off = np.abs(mean[0] - mean[1]).mean()
        check("classes %d: the same shares" % number, off < 0.03, off)


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "build/release/bin/oracle_forest"
    single_trees(program)
    regression_forests(program)
    classification_forests(program)
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
