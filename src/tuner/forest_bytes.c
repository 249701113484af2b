/* SPDX-License-Identifier: MIT */
/* Forests as bytes (forest.h):
 *
 *     u32 trees, u32 features, u32 classes, u32 nodes, u32 leaves
 *     u64 rows out of bag, f64 error on them (NaN if there are none)
 *     trees x u32   node of the root
 *     nodes x {f32 value, u16 right, u16 feature}
 *     leaves x classes x f32
 *
 * Nodes of a tree stand together, each before its left subtree, that before the right one. One walk
 * in this order therefore meets every node and proves that there is no loop. */
#include <math.h>

#include "base/error.h"
#include "base/mem.h"
#include "tuner/forest_impl.h"
#include "tuner/little_endian.h"

enum { HEADER_BYTES = 36, ROOT_BYTES = 4, NODE_BYTES = 8, SHARE_BYTES = 4 };

size_t tr_forest_bytes(const struct tr_forest *f)
{
    return HEADER_BYTES + (size_t)f->n_trees * ROOT_BYTES + (size_t)f->n_nodes * NODE_BYTES +
           (size_t)f->n_leaves * f->n_classes * SHARE_BYTES;
}

void tr_forest_write(const struct tr_forest *f, uint8_t *out)
{
    tr_put_int(&out, f->n_trees, 4);
    tr_put_int(&out, f->n_features, 4);
    tr_put_int(&out, f->n_classes, 4);
    tr_put_int(&out, f->n_nodes, 4);
    tr_put_int(&out, f->n_leaves, 4);
    tr_put_int(&out, f->n_oob, 8);
    tr_put_f64(&out, f->oob_error);
    for (uint32_t t = 0; t < f->n_trees; t++) tr_put_int(&out, f->roots[t], ROOT_BYTES);
    for (uint32_t i = 0; i < f->n_nodes; i++) {
        tr_put_f32(&out, f->nodes[i].value);
        tr_put_int(&out, f->nodes[i].right, 2);
        tr_put_int(&out, f->nodes[i].feature, 2);
    }
    for (size_t i = 0; i < (size_t)f->n_leaves * f->n_classes; i++) tr_put_f32(&out, f->shares[i]);
}

/* ---------------------------------------------------------------------- checks */

static trueno_status corrupt(trueno_error *err, const char *what)
{
    return tr_fail(err, TRUENO_ERR_CORRUPT, "forest: %s", what);
}

static bool within(uint32_t v, uint32_t min, uint32_t max)
{
    return v >= min && v <= max;
}

/* Reads the header and checks it against the number of bytes. */
static trueno_status read_header(struct tr_forest *f, const uint8_t **at, size_t n,
                                 trueno_error *err)
{
    if (n < HEADER_BYTES)
        return tr_fail(err, TRUENO_ERR_TRUNCATED, "forest: %zu bytes, its header has %d", n,
                       HEADER_BYTES);
    f->n_trees = (uint32_t)tr_get_int(at, 4);
    f->n_features = (uint32_t)tr_get_int(at, 4);
    f->n_classes = (uint32_t)tr_get_int(at, 4);
    f->n_nodes = (uint32_t)tr_get_int(at, 4);
    f->n_leaves = (uint32_t)tr_get_int(at, 4);
    uint64_t n_oob = tr_get_int(at, 8);
    f->n_oob = (size_t)n_oob;
    f->oob_error = tr_get_f64(at);
    if (!within(f->n_trees, 1, TR_FOREST_MAX_TREES) ||
        !within(f->n_features, 1, TR_FOREST_MAX_FEATURES) ||
        !within(f->n_classes, 0, TR_FOREST_MAX_CLASSES) ||
        !within(f->n_nodes, f->n_trees, TR_FOREST_MAX_NODES) ||
        !within(f->n_leaves, 0, f->n_classes ? f->n_nodes : 0))
        return corrupt(err, "a count of its header is out of range");
    if (f->n_oob != n_oob || f->n_oob > UINT32_MAX / 4) return corrupt(err, "too many rows");
    if (f->n_oob ? !(f->oob_error >= 0 && f->oob_error <= (f->n_classes ? 1 : INFINITY))
                 : !isnan(f->oob_error))
        return corrupt(err, "its out-of-bag error is none");
    size_t bytes = tr_forest_bytes(f);
    if (n < bytes)
        return tr_fail(err, TRUENO_ERR_TRUNCATED, "forest: %zu bytes, announces %zu", n, bytes);
    return n == bytes ? TRUENO_OK : corrupt(err, "bytes follow");
}

/* A right subtree that the walk has still to meet. */
struct pending {
    uint32_t node, depth;
};

static bool leaf_ok(const struct tr_forest *f, const struct tr_forest_node *node, uint32_t number)
{
    if (node->right != 0) return false;
    if (f->n_classes) return node->value == (float)number;
    return fabs((double)node->value) <= TR_FOREST_MAX_TARGET;
}

/* Walks the tree of the nodes [begin, end) in their order; n_leaves counts on. A right child must
 * be the node that the walk meets after its left sibling's subtree, so it is behind its parent and
 * inside the tree. */
static bool tree_ok(const struct tr_forest *f, uint32_t begin, uint32_t end, uint32_t *n_leaves)
{
    struct pending stack[TR_FOREST_MAX_DEPTH];
    uint32_t n = 0, depth = 0;
    for (uint32_t i = begin; i < end; i++) {
        const struct tr_forest_node *node = &f->nodes[i];
        if (node->feature == TR_FOREST_LEAF) {
            if (!leaf_ok(f, node, *n_leaves)) return false;
            *n_leaves += f->n_classes > 0;
            if (n == 0) return i + 1 == end;
            if (stack[--n].node != i + 1) return false;
            depth = stack[n].depth;
            continue;
        }
        if (node->feature >= f->n_features || !isfinite(node->value)) return false;
        if (depth == TR_FOREST_MAX_DEPTH) return false;
        depth++;
        stack[n++] = (struct pending){node->right, depth}; /* one waits on a level, at most */
    }
    return false;
}

static bool shares_ok(const float *shares, uint32_t n_classes)
{
    double sum = 0;
    for (uint32_t c = 0; c < n_classes; c++) {
        if (!(shares[c] >= 0 && shares[c] <= 1)) return false;
        sum += (double)shares[c];
    }
    return fabs(sum - 1) <= 1e-4;
}

static trueno_status check(const struct tr_forest *f, trueno_error *err)
{
    uint32_t n_leaves = 0;
    if (f->roots[0] != 0) return corrupt(err, "its first tree does not begin at node 0");
    for (uint32_t t = 0; t < f->n_trees; t++) {
        uint32_t begin = f->roots[t], end = t + 1 < f->n_trees ? f->roots[t + 1] : f->n_nodes;
        if (end <= begin || end > f->n_nodes) return corrupt(err, "its trees are out of order");
        if (!tree_ok(f, begin, end, &n_leaves))
            return tr_fail(err, TRUENO_ERR_CORRUPT, "forest: tree %u is none", t);
    }
    if (n_leaves != f->n_leaves) return corrupt(err, "has more distributions than leaves");
    for (uint32_t l = 0; l < f->n_leaves; l++)
        if (!shares_ok(f->shares + (size_t)l * f->n_classes, f->n_classes))
            return tr_fail(err, TRUENO_ERR_CORRUPT, "forest: shares of leaf %u are none", l);
    return TRUENO_OK;
}

/* --------------------------------------------------------------------- reading */

static bool alloc(struct tr_forest *f)
{
    f->roots = tr_calloc(f->ctx, f->n_trees, sizeof *f->roots);
    f->nodes = tr_calloc(f->ctx, f->n_nodes, sizeof *f->nodes);
    if (f->n_classes) f->shares = tr_calloc(f->ctx, f->n_leaves, f->n_classes * sizeof(float));
    return f->roots && f->nodes && (f->shares || !f->n_classes);
}

static void read_arrays(struct tr_forest *f, const uint8_t *at)
{
    for (uint32_t t = 0; t < f->n_trees; t++) f->roots[t] = (uint32_t)tr_get_int(&at, ROOT_BYTES);
    for (uint32_t i = 0; i < f->n_nodes; i++) {
        f->nodes[i].value = tr_get_f32(&at);
        f->nodes[i].right = (uint16_t)tr_get_int(&at, 2);
        f->nodes[i].feature = (uint16_t)tr_get_int(&at, 2);
    }
    for (size_t i = 0; i < (size_t)f->n_leaves * f->n_classes; i++) f->shares[i] = tr_get_f32(&at);
}

trueno_status tr_forest_read(struct tr_forest **out, trueno_ctx *ctx, const uint8_t *p, size_t n,
                             trueno_error *err)
{
    struct tr_forest header = {.ctx = ctx};

    *out = NULL;
    trueno_status status = read_header(&header, &p, n, err);
    if (status != TRUENO_OK) return status;
    struct tr_forest *f = tr_alloc(ctx, sizeof *f);
    if (f) *f = header;
    if (!f || !alloc(f)) {
        tr_forest_free(f);
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "forest: no memory for %u nodes", header.n_nodes);
    }
    read_arrays(f, p);
    status = check(f, err);
    if (status == TRUENO_OK)
        *out = f;
    else
        tr_forest_free(f);
    return status;
}
