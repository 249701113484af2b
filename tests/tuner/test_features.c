/* SPDX-License-Identifier: MIT */
/* The feature vector: its table, defaults, checks, and the way back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "trueno/features.h"

#define DIM TRUENO_FEATURE_DIM

/* The specification of the slots, typed once more: name; log2(1 + v / s) / p, or v / s if p is 0;
 * smallest and largest raw value; whole numbers; inert. */
static const struct {
    const char *name;
    double s, p, min, max;
    int whole, inert;
} spec[DIM] = {
    {"model_params_b", 1.0 / 1024, 24, 1e-4, 16383, 0, 0},
    {"hidden_dim", 1, 18, 1, 262143, 1, 0},
    {"num_layers", 1, 12, 1, 4095, 1, 0},
    {"num_heads", 1, 12, 0, 4095, 1, 0},
    {"intermediate_dim", 1, 20, 0, 1048575, 1, 0},
    {"vocab_size", 1, 24, 1, 16777215, 1, 0},
    {"kv_heads", 1, 12, 0, 4095, 1, 0},
    {"head_dim", 1, 12, 1, 4095, 1, 0},
    {"rope_theta", 1, 40, 0, 1099511627775.0, 0, 1},
    {"tie_embeddings", 1, 0, 0, 1, 1, 0},
    {"batch_size", 1, 16, 1, 65535, 1, 0},
    {"seq_len", 1, 24, 1, 16777215, 1, 0},
    {"context_len", 1, 24, 1, 16777215, 1, 0},
    {"kv_cache_tokens", 1, 36, 0, 68719476735.0, 1, 0},
    {"draft_tokens", 1, 8, 0, 255, 1, 0},
    {"prompt_tokens", 1, 24, 0, 16777215, 1, 0},
    {"generated_tokens", 1, 24, 0, 16777215, 1, 0},
    {"temperature", 1, 8, 0, 255, 0, 1},
    {"top_p", 1, 0, 0, 1, 0, 1},
    {"top_k", 1, 24, 0, 16777215, 1, 1},
    {"quant_q4_k", 1, 0, 0, 1, 1, 0},
    {"quant_q5_k", 1, 0, 0, 1, 1, 0},
    {"quant_q6_k", 1, 0, 0, 1, 1, 0},
    {"quant_q8_0", 1, 0, 0, 1, 1, 0},
    {"quant_f16", 1, 0, 0, 1, 1, 0},
    {"quant_f32", 1, 0, 0, 1, 1, 0},
    {"quant_group_size", 1, 10, 1, 1023, 1, 0},
    {"bits_per_weight", 64, 0, 0.5, 64, 0, 0},
    {"quant_scheme_idx", 15, 0, 0, 15, 1, 0},
    {"has_scales", 1, 0, 0, 1, 1, 0},
    {"gpu_mem_bw_gbs", 1, 16, 1e-6, 65535, 0, 0},
    {"gpu_compute_tflops", 1.0 / 64, 22, 1e-6, 65535.984375, 0, 0},
    {"sm_count", 1, 12, 1, 4095, 1, 0},
    {"tensor_cores", 4, 0, 0, 4, 1, 0},
    {"cuda_graphs", 1, 0, 0, 1, 1, 0},
    {"pcie_gen", 16, 0, 0, 16, 1, 0},
    {"vram_gb", 1, 16, 0, 65535, 0, 0},
    {"cpu_threads", 1, 16, 1, 65535, 1, 0},
    {"numa_nodes", 1, 8, 1, 255, 1, 0},
    {"system_ram_gb", 1, 20, 0, 1048575, 0, 0},
    {"is_unified_memory", 1, 0, 0, 1, 1, 0},
    {"power_limit", 1, 16, 0, 65535, 0, 0},
};

static double encoded(int slot, double raw)
{
    return spec[slot].p > 0 ? log2(1 + raw / spec[slot].s) / spec[slot].p : raw / spec[slot].s;
}

static void expect_slot(const float *x, int slot, double raw)
{
    if (!(fabs((double)x[slot] - encoded(slot, raw)) <= 6e-8))
        fail_msg("%s is %.9g, not the code %.9g of %g", spec[slot].name, (double)x[slot],
                 encoded(slot, raw), raw);
}

static void vector_of(float x[DIM], const trueno_features *f)
{
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_features_to_vector(x, f, &err) != TRUENO_OK) fail_msg("%s", err.message);
}

/* validate and to_vector refuse f with a message that holds all of `part`. */
static void expect_refused(const trueno_features *f, const char *part)
{
    trueno_error err = {TRUENO_OK, ""};
    float x[DIM];
    assert_int_equal(trueno_features_validate(f, &err), TRUENO_ERR_INVALID_FEATURE);
    if (!strstr(err.message, part)) fail_msg("'%s' lacks '%s'", err.message, part);
    x[10] = 1;
    assert_int_equal(trueno_features_to_vector(x, f, NULL), TRUENO_ERR_INVALID_FEATURE);
    for (int i = 0; i < DIM; i++) assert_true(x[i] == 0);
}

static trueno_features model_of(double params_b)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = params_b;
    return f;
}

static void test_table(void **state)
{
    trueno_feature_info info;
    (void)state;
    for (int i = 0; i < DIM; i++) {
        assert_int_equal(trueno_feature_info_get(&info, (trueno_feature)i), TRUENO_OK);
        assert_string_equal(info.name, spec[i].name);
        assert_string_equal(trueno_feature_name((trueno_feature)i), spec[i].name);
        assert_true(fabs(info.min - spec[i].min) <= 0 && fabs(info.max - spec[i].max) <= 0);
        assert_int_equal(info.whole, spec[i].whole);
        assert_int_equal(info.inert, spec[i].inert);
        assert_true(info.scale == spec[i].s && info.bits == spec[i].p);
    }
    assert_string_equal(trueno_feature_name(TRUENO_FEATURE_GPU_MEM_BW_GBS), "gpu_mem_bw_gbs");
    assert_string_equal(trueno_feature_name(TRUENO_FEATURE_GPU_COMPUTE_TFLOPS),
                        "gpu_compute_tflops");
    assert_null(trueno_feature_name((trueno_feature)DIM));
    assert_null(trueno_feature_name((trueno_feature)-1));
    assert_int_equal(trueno_feature_info_get(&info, (trueno_feature)DIM), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_feature_info_get(NULL, (trueno_feature)0), TRUENO_ERR_ARGUMENT);
}

/* Codes of the largest things on the market, from the specification's text. */
static void test_nothing_saturates(void **state)
{
    static const struct {
        trueno_feature id;
        double raw, code;
    } known[] = {
        {TRUENO_FEATURE_GPU_MEM_BW_GBS, 4800, 0.764}, /* H200 */
        {TRUENO_FEATURE_GPU_MEM_BW_GBS, 8000, 0.810}, /* B200 */
        {TRUENO_FEATURE_GPU_COMPUTE_TFLOPS, 2250, 0.779},
        {TRUENO_FEATURE_MODEL_PARAMS_B, 405, 0.778},
        {TRUENO_FEATURE_CONTEXT_LEN, 1048576, 0.833},
        {TRUENO_FEATURE_BATCH_SIZE, 4096, 0.75},
    };
    float x[DIM], y[DIM];
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        trueno_features f = model_of(7);
        assert_int_equal(trueno_features_set(&f, known[i].id, known[i].raw, NULL), TRUENO_OK);
        vector_of(x, &f);
        assert_true(fabs((double)x[known[i].id] - known[i].code) <= 0.0006);
        assert_int_equal(trueno_features_set(&f, known[i].id, known[i].raw / 2, NULL), TRUENO_OK);
        vector_of(y, &f);
        assert_true(y[known[i].id] < x[known[i].id]);
    }
}

static void test_defaults(void **state)
{
    trueno_features f, init = TRUENO_FEATURES_INIT;
    float x[DIM];
    double raw;
    (void)state;
    memset(&f, 0, sizeof f); /* padding too */
    trueno_features_init(&f);
    for (int i = 0; i < DIM; i++) {
        assert_int_equal(trueno_features_get(&raw, &init, (trueno_feature)i), TRUENO_OK);
        assert_true(raw == TRUENO_UNSET);
        assert_int_equal(trueno_features_get(&raw, &f, (trueno_feature)i), TRUENO_OK);
        assert_true(raw == TRUENO_UNSET);
    }
    assert_true(init.weight_bytes_per_pass == TRUENO_UNSET && init.flops_per_token == TRUENO_UNSET);
    assert_true(init.kv_bytes_per_token == TRUENO_UNSET && init.cache_bytes == TRUENO_UNSET);
    assert_int_equal(init.phase, TRUENO_PHASE_AUTO);

    f.model_params_b = 1.5; /* the specification's first example */
    f.batch_size = 4;
    vector_of(x, &f);
    static const double want[DIM] = {
        1.5,  1536, 28,  12, 8960, 151936, 2,  128, 10000, 0, /* a model of that size */
        4,    1,    1,   4,  0,    0,      0,  0,   1,     0, /* four sequences decode */
        1,    0,    0,   0,  0,    0,      32, 4.5, 4,     1, /* Q4_K, not 4 bytes a weight */
        1000, 100,  128, 3,  0,    4,      24, 1,   1,     0, 0, 0}; /* the reference device */
    for (int i = 0; i < DIM; i++) expect_slot(x, i, want[i]);

    f.prompt_tokens = 512; /* prefill: nothing resident, as long as the prompt */
    vector_of(x, &f);
    expect_slot(x, TRUENO_FEATURE_SEQ_LEN, 512);
    expect_slot(x, TRUENO_FEATURE_KV_CACHE_TOKENS, 0);
    f.generated_tokens = 100; /* decode again */
    vector_of(x, &f);
    expect_slot(x, TRUENO_FEATURE_SEQ_LEN, 612);
    expect_slot(x, TRUENO_FEATURE_KV_CACHE_TOKENS, 4 * 612);
    f.kv_cache_tokens = 4001;
    vector_of(x, &f);
    expect_slot(x, TRUENO_FEATURE_SEQ_LEN, 1001);
    expect_slot(x, TRUENO_FEATURE_CONTEXT_LEN, 1001);

    trueno_features nothing = TRUENO_FEATURES_INIT; /* no size: no geometry */
    vector_of(x, &nothing);
    for (int i = 0; i <= TRUENO_FEATURE_HEAD_DIM; i++) assert_true(x[i] == 0);
    nothing.weight_bytes_per_pass = 562500000; /* 10^9 weights of Q4_K */
    vector_of(x, &nothing);
    expect_slot(x, TRUENO_FEATURE_MODEL_PARAMS_B, 1);
    expect_slot(x, TRUENO_FEATURE_HIDDEN_DIM, 2048);
}

/* Heads that the user gave get a number of KV heads that divides them. */
static void test_geometry(void **state)
{
    float x[DIM];
    trueno_features f = model_of(8);
    (void)state;
    f.num_heads = 20; /* the 8B model has 8 KV heads */
    vector_of(x, &f);
    expect_slot(x, TRUENO_FEATURE_KV_HEADS, 20);
    f.num_heads = 16;
    vector_of(x, &f);
    expect_slot(x, TRUENO_FEATURE_KV_HEADS, 8);
    f = model_of(405);
    vector_of(x, &f);
    expect_slot(x, TRUENO_FEATURE_NUM_LAYERS, 126);
    f = model_of(2); /* nearer to 1.5 than to 3.2 */
    vector_of(x, &f);
    expect_slot(x, TRUENO_FEATURE_NUM_LAYERS, 28);
    expect_slot(x, TRUENO_FEATURE_HIDDEN_DIM, 1536);
}

static void test_ranges(void **state)
{
    (void)state;
    for (int i = 0; i < DIM; i++) {
        const double wrong[] = {NAN,
                                INFINITY,
                                -INFINITY,
                                -2,
                                -0.5,
                                spec[i].max * 1.001 + 0.001,
                                spec[i].whole ? 0.5 : -3,
                                spec[i].min > 0 ? 0 : -4};
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
            trueno_features f = model_of(7);
            trueno_error err = {TRUENO_OK, ""};
            trueno_status st = trueno_features_set(&f, (trueno_feature)i, wrong[k], &err);
            assert_int_equal(st, TRUENO_ERR_INVALID_FEATURE);
            assert_int_equal(err.status, st);
            assert_non_null(strstr(err.message, spec[i].name));
        }
    }
    trueno_features f = model_of(7);
    f.batch_size = 0;
    expect_refused(&f, "batch_size is 0, out of range (valid: 1 to 65535)");
    f.batch_size = NAN;
    expect_refused(&f, "batch_size is");
    f.batch_size = 2.5;
    expect_refused(&f, "not a whole number");
    f = model_of(7);
    f.power_limit = 1e9;
    expect_refused(&f, "power_limit");
    f = model_of(7);
    f.kv_bytes_per_token = -3;
    expect_refused(&f, "kv_bytes_per_token");
    f = (trueno_features)TRUENO_FEATURES_INIT;
    f.cache_bytes = NAN;
    expect_refused(&f, "cache_bytes");
    f = model_of(7);
    f.phase = (trueno_phase)7;
    expect_refused(&f, "phase is 7");
    f = model_of(7);
    f.quant = (trueno_quant)13;
    expect_refused(&f, "quant is 13");
}

static void test_contradictions(void **state)
{
    trueno_features f = model_of(7);
    (void)state;
    f.num_heads = 32;
    f.kv_heads = 5;
    expect_refused(&f, "kv_heads must divide num_heads");
    f.num_heads = f.kv_heads = 0; /* no attention at all is fine */
    assert_int_equal(trueno_features_validate(&f, NULL), TRUENO_OK);
    f.kv_heads = 1;
    expect_refused(&f, "kv_heads must be 0");
    f = model_of(7);
    f.seq_len = 100;
    f.context_len = 99;
    expect_refused(&f, "seq_len is larger than context_len");
    f.context_len = 100;
    f.kv_cache_tokens = 101;
    expect_refused(&f, "kv_cache_tokens is larger");
    f.batch_size = 2;
    assert_int_equal(trueno_features_validate(&f, NULL), TRUENO_OK);

    f = model_of(7); /* a CPU: nothing stands in for a measurement */
    f.vram_gb = 0;
    expect_refused(&f, "gpu_mem_bw_gbs is not given");
    f.gpu_mem_bw_gbs = 50;
    expect_refused(&f, "gpu_compute_tflops is not given");
    f.gpu_compute_tflops = 2;
    expect_refused(&f, "sm_count is not given");
    f.sm_count = 2;
    float x[DIM];
    vector_of(x, &f);
    expect_slot(x, TRUENO_FEATURE_TENSOR_CORES, 0);
    expect_slot(x, TRUENO_FEATURE_IS_UNIFIED_MEMORY, 1);
    f.cuda_graphs = 1;
    expect_refused(&f, "cuda_graphs");

    f = model_of(7);
    f.quant = TRUENO_QUANT_Q6_K;
    f.quant_group_size = 32;
    expect_refused(&f, "quant_group_size is 32, but 16 for Q6_K");
    f = model_of(7);
    f.quant_scheme_idx = 1;
    expect_refused(&f, "quant_scheme_idx is 1, but 4 for Q4_K");
    f = model_of(7);
    f.has_scales = 0;
    expect_refused(&f, "has_scales");
    f = model_of(7);
    f.bits_per_weight = 4.85; /* a mixed file */
    assert_int_equal(trueno_features_validate(&f, NULL), TRUENO_OK);
    f.bits_per_weight = 7.3;
    expect_refused(&f, "bits_per_weight is 7.3, must be 3.6 to 7.2");
    f.bits_per_weight = 3.5;
    expect_refused(&f, "bits_per_weight");
}

/* Every type: its slot, if it has one, and the numbers that tell it from others, there and back. */
static void test_quants(void **state)
{
    static const struct {
        const char *name;
        int slot;
        double group, bits, scheme;
        trueno_dtype dtype;
    } types[TRUENO_QUANT_COUNT] = {
        {"Q4_0", 0, 32, 4.5, 1, TRUENO_TYPE_Q4_0},     {"Q4_1", 0, 32, 5.0, 2, TRUENO_TYPE_Q4_1},
        {"Q4_K", 20, 32, 4.5, 4, TRUENO_TYPE_Q4_K},    {"Q5_K", 21, 32, 5.5, 4, TRUENO_TYPE_Q5_K},
        {"Q6_K", 22, 16, 6.5625, 3, TRUENO_TYPE_Q6_K}, {"Q8_0", 23, 32, 8.5, 1, TRUENO_TYPE_Q8_0},
        {"F16", 24, 1, 16, 0, TRUENO_TYPE_F16},        {"F32", 25, 1, 32, 0, TRUENO_TYPE_F32},
        {"Q5_0", 0, 32, 5.5, 1, TRUENO_TYPE_Q5_0},     {"Q5_1", 0, 32, 6.0, 2, TRUENO_TYPE_Q5_1},
        {"BF16", 0, 1, 16, 0, TRUENO_TYPE_BF16},       {"Q2_K", 0, 16, 2.625, 4, TRUENO_TYPE_Q2_K},
        {"Q3_K", 0, 16, 3.4375, 3, TRUENO_TYPE_Q3_K},
    };
    (void)state;
    for (int q = 0; q < TRUENO_QUANT_COUNT; q++) {
        trueno_features f = model_of(7), back;
        trueno_dtype dtype;
        trueno_quant quant;
        float x[DIM];
        assert_string_equal(trueno_quant_name((trueno_quant)q), types[q].name);
        assert_int_equal(trueno_quant_dtype(&dtype, (trueno_quant)q), TRUENO_OK);
        assert_int_equal(dtype, types[q].dtype);
        assert_int_equal(trueno_quant_from_dtype(&quant, dtype), TRUENO_OK);
        assert_int_equal(quant, q);
        assert_int_equal(trueno_features_set_quant(&f, (trueno_quant)q), TRUENO_OK);
        vector_of(x, &f);
        for (int i = 20; i <= 25; i++) assert_true(x[i] == (i == types[q].slot));
        expect_slot(x, TRUENO_FEATURE_QUANT_GROUP_SIZE, types[q].group);
        expect_slot(x, TRUENO_FEATURE_BITS_PER_WEIGHT, types[q].bits);
        expect_slot(x, TRUENO_FEATURE_QUANT_SCHEME_IDX, types[q].scheme);
        expect_slot(x, TRUENO_FEATURE_HAS_SCALES, types[q].scheme != 0);
        assert_int_equal(trueno_features_from_vector(&back, x, NULL), TRUENO_OK);
        assert_int_equal(back.quant, q);
    }
    trueno_dtype dtype;
    trueno_quant quant;
    assert_string_equal(trueno_quant_name(TRUENO_QUANT_UNSET), "unset");
    assert_null(trueno_quant_name((trueno_quant)13));
    assert_null(trueno_quant_name((trueno_quant)-2));
    assert_int_equal(trueno_quant_dtype(&dtype, TRUENO_QUANT_UNSET), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(trueno_quant_from_dtype(&quant, TRUENO_TYPE_I8), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(quant, TRUENO_QUANT_UNSET);

    float x[DIM];
    trueno_features f = model_of(7), back;
    vector_of(x, &f);
    x[21] = 1; /* two types */
    assert_int_equal(trueno_features_from_vector(&back, x, NULL), TRUENO_ERR_INVALID_FEATURE);
    x[20] = x[21] = 0; /* no slot, and Q4_K's numbers: no such type (Q2_K has groups of 16) */
    assert_int_equal(trueno_features_from_vector(&back, x, NULL), TRUENO_ERR_INVALID_FEATURE);
    assert_true(back.model_params_b == TRUENO_UNSET);
}

static uint64_t rng = 1;

/* Uniform on [0, 1). */
static double uniform(void)
{
    rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(rng >> 11) * 0x1p-53;
}

/* A valid value of a slot; many are small. */
static double random_raw(int i)
{
    double x = uniform(),
           raw = spec[i].p > 0 ? spec[i].s * (exp2(spec[i].p * x) - 1) : x * spec[i].s;
    if (spec[i].whole) raw = floor(raw);
    return fmin(fmax(raw, spec[i].min), spec[i].max);
}

static void test_there_and_back(void **state)
{
    int checked = 0;
    (void)state;
    for (int n = 0; n < 20000; n++) {
        trueno_features f = TRUENO_FEATURES_INIT, back;
        float x[DIM], again[DIM];
        for (int i = 0; i < DIM; i++) {
            if (i >= 20 && i < 30) continue;
            assert_int_equal(trueno_features_set(&f, (trueno_feature)i, random_raw(i), NULL),
                             TRUENO_OK);
        }
        trueno_features_set_quant(&f, (trueno_quant)(n % TRUENO_QUANT_COUNT));
        f.kv_heads = f.num_heads;
        f.seq_len = fmin(f.seq_len, f.context_len);
        f.kv_cache_tokens = fmin(f.kv_cache_tokens, f.batch_size * f.context_len);
        if (f.vram_gb == 0) f.cuda_graphs = 0;
        vector_of(x, &f);
        trueno_error err = {TRUENO_OK, ""};
        trueno_status st = trueno_features_from_vector(&back, x, &err);
        /* large sums of tokens are compared after they were rounded */
        if (st != TRUENO_OK && strstr(err.message, "larger than")) continue;
        if (st != TRUENO_OK) fail_msg("%s", err.message);
        checked++;
        for (int i = 0; i < DIM; i++) {
            double was, is;
            trueno_features_get(&was, &f, (trueno_feature)i);
            trueno_features_get(&is, &back, (trueno_feature)i);
            bool exact = spec[i].whole && was <= 524288;
            if (i > 7 || was != 0) /* 0 heads of a known model stay 0 */
                assert_true(exact ? was == is
                                  : fabs(was - is) <= fmax(1e-6 * fabs(was), spec[i].whole));
        }
        vector_of(again, &back);
        for (int i = 0; i < DIM; i++) assert_true(fabsf(again[i] - x[i]) <= 1.2e-7F);
    }
    assert_true(checked > 15000);
}

static void test_set_and_get(void **state)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    trueno_error err = {TRUENO_OK, ""};
    double raw;
    (void)state;
    assert_int_equal(trueno_features_set(&f, TRUENO_FEATURE_QUANT_Q8_0, 1, NULL), TRUENO_OK);
    assert_int_equal(f.quant, TRUENO_QUANT_Q8_0);
    assert_true(f.bits_per_weight == 8.5);
    assert_int_equal(trueno_features_get(&raw, &f, TRUENO_FEATURE_QUANT_Q8_0), TRUENO_OK);
    assert_true(raw == 1);
    assert_int_equal(trueno_features_get(&raw, &f, TRUENO_FEATURE_QUANT_F16), TRUENO_OK);
    assert_true(raw == 0);
    assert_int_equal(trueno_features_set(&f, TRUENO_FEATURE_QUANT_F16, 0, NULL), TRUENO_OK);
    assert_int_equal(trueno_features_set(&f, TRUENO_FEATURE_QUANT_Q8_0, 0, &err),
                     TRUENO_ERR_INVALID_FEATURE);
    assert_int_equal(trueno_features_set(&f, TRUENO_FEATURE_TOP_K, 40, NULL), TRUENO_OK);
    assert_true(f.top_k == 40);
    assert_int_equal(trueno_features_set(&f, TRUENO_FEATURE_TOP_K, TRUENO_UNSET, NULL), TRUENO_OK);
    assert_true(f.top_k == TRUENO_UNSET);
    assert_int_equal(trueno_features_set(&f, (trueno_feature)42, 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_features_set(NULL, TRUENO_FEATURE_TOP_K, 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_features_get(&raw, NULL, TRUENO_FEATURE_TOP_K), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_features_get(NULL, &f, TRUENO_FEATURE_TOP_K), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_features_set_quant(&f, TRUENO_QUANT_UNSET), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_features_set_quant(NULL, TRUENO_QUANT_F16), TRUENO_ERR_ARGUMENT);

    assert_int_equal(trueno_features_batch_size(&f), 1);
    f.batch_size = 65535;
    assert_int_equal(trueno_features_batch_size(&f), 65535);
    f.batch_size = NAN;
    assert_int_equal(trueno_features_batch_size(&f), 1);
    assert_int_equal(trueno_features_batch_size(NULL), 1);

    trueno_features_init(&f);
    assert_int_equal(trueno_features_phase(&f), TRUENO_PHASE_DECODE);
    f.prompt_tokens = 7;
    assert_int_equal(trueno_features_phase(&f), TRUENO_PHASE_PREFILL);
    f.generated_tokens = 1;
    assert_int_equal(trueno_features_phase(&f), TRUENO_PHASE_DECODE);
    f.phase = TRUENO_PHASE_PREFILL;
    assert_int_equal(trueno_features_phase(&f), TRUENO_PHASE_PREFILL);

    float x[DIM];
    f.struct_size = 8;
    assert_int_equal(trueno_features_validate(&f, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "struct_size"));
    assert_int_equal(trueno_features_validate(NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_features_to_vector(NULL, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_features_from_vector(NULL, x, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_features_from_vector(&f, NULL, NULL), TRUENO_ERR_ARGUMENT);
    memset(x, 0, sizeof x);
    x[17] = NAN;
    assert_int_equal(trueno_features_from_vector(&f, x, &err), TRUENO_ERR_INVALID_FEATURE);
    assert_non_null(strstr(err.message, "temperature"));
    x[17] = 1.0001F;
    assert_int_equal(trueno_features_from_vector(&f, x, NULL), TRUENO_ERR_INVALID_FEATURE);
}

/* Numbers that tuning files and applications hold. */
static void test_families(void **state)
{
    trueno_kernel k;
    (void)state;
    assert_int_equal(trueno_kernel_count(), 47);
    for (uint32_t i = 0; i < 47; i++) {
        const char *name = trueno_kernel_name((trueno_kernel)i);
        assert_int_equal(trueno_kernel_from_name(&k, name), TRUENO_OK);
        assert_int_equal(k, i); /* so no two share a name */
    }
    assert_string_equal(trueno_kernel_name((trueno_kernel)0), "TiledQ4K");
    assert_string_equal(trueno_kernel_name((trueno_kernel)2), "VectorizedQ4K");
    assert_string_equal(trueno_kernel_name((trueno_kernel)3), "BatchedQ4K");
    assert_string_equal(trueno_kernel_name((trueno_kernel)13), "FusedQKVHwDp4aQ4KGemv");
    assert_string_equal(trueno_kernel_name((trueno_kernel)15), "Unknown");
    assert_string_equal(trueno_kernel_name((trueno_kernel)20), "VectorizedQ8_0");
    assert_string_equal(trueno_kernel_name((trueno_kernel)46), "FusedNormQuantCpu");
    assert_string_equal(trueno_kernel_name((trueno_kernel)47), "Unknown");
    assert_string_equal(trueno_kernel_name((trueno_kernel)-1), "Unknown");
    assert_int_equal(trueno_kernel_from_name(&k, "batchedq4k"), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(k, TRUENO_KERNEL_UNKNOWN);
    assert_int_equal(trueno_kernel_from_name(&k, NULL), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(trueno_kernel_from_name(NULL, "Generic"), TRUENO_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),       cmocka_unit_test(test_nothing_saturates),
        cmocka_unit_test(test_defaults),    cmocka_unit_test(test_geometry),
        cmocka_unit_test(test_ranges),      cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_quants),      cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_set_and_get), cmocka_unit_test(test_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
