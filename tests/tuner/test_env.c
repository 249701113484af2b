/* SPDX-License-Identifier: MIT */
/* Features from a model file and the machine. Sizes are sums by hand over the tensors named below;
 * Q4_K takes 144 bytes, Q6_K 210 per 256 weights, Q8_0 34 per 32, Q4_0 18 per 32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hooks.h"
#include "trueno/machine.h"
#include "trueno/predict.h"
#include "trueno/quantize.h"

static trueno_ctx *ctx;

/* ------------------------------------------------------------------- small files */

struct tensor {
    const char *name;
    trueno_dtype type;
    uint64_t ne[4]; /* 0: no such dimension */
};

/* A file in the making. */
struct file {
    trueno_gguf_writer *w;
    trueno_gguf *g;
};

static struct file begin(void)
{
    struct file f = {NULL, NULL};
    assert_int_equal(trueno_gguf_writer_new(ctx, &f.w), TRUENO_OK);
    return f;
}

static void number(struct file *f, const char *key, uint32_t value)
{
    assert_int_equal(trueno_gguf_writer_u32(f->w, key, value), TRUENO_OK);
}

static void text(struct file *f, const char *key, const char *value)
{
    assert_int_equal(trueno_gguf_writer_str(f->w, key, value, strlen(value)), TRUENO_OK);
}

static void numbers(struct file *f, const char *key, uint32_t a, uint32_t b)
{
    const uint32_t both[] = {a, b};
    assert_int_equal(trueno_gguf_writer_array(f->w, key, TRUENO_GGUF_U32, both, 2), TRUENO_OK);
}

static uint32_t n_dims(const struct tensor *t)
{
    uint32_t n = 0;
    while (n < 4 && t->ne[n]) n++;
    return n;
}

/* Writes the tensors, all zeros, and opens the file. */
static void end(struct file *f, const struct tensor *tensors, size_t n)
{
    static const char zeros[1 << 20];
    size_t bytes;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(trueno_gguf_writer_tensor(f->w, tensors[i].name, tensors[i].type,
                                                   n_dims(&tensors[i]), tensors[i].ne),
                         TRUENO_OK);
    assert_int_equal(trueno_gguf_writer_begin(f->w, NULL, NULL), TRUENO_OK);
    for (size_t i = 0; i < n; i++) {
        size_t rows = 1;
        for (uint32_t d = 1; d < n_dims(&tensors[i]); d++) rows *= (size_t)tensors[i].ne[d];
        const size_t size = rows * trueno_row_bytes(tensors[i].type, (size_t)tensors[i].ne[0]);
        assert_true(size > 0 && size <= sizeof zeros);
        assert_int_equal(trueno_gguf_writer_data(f->w, zeros, size, NULL), TRUENO_OK);
    }
    assert_int_equal(trueno_gguf_writer_finish(f->w, NULL), TRUENO_OK);
    const void *image = trueno_gguf_writer_buffer(f->w, &bytes);
    assert_int_equal(trueno_gguf_open_buffer(ctx, &f->g, image, bytes, NULL, NULL), TRUENO_OK);
}

static void drop(struct file *f)
{
    trueno_gguf_free(f->g);
    trueno_gguf_writer_free(f->w);
}

static trueno_status from_file(trueno_features *f, const struct file *file, trueno_error *err)
{
    trueno_env_options opt = TRUENO_ENV_OPTIONS_INIT;
    opt.gguf = file->g;
    return trueno_features_from_env(ctx, f, &opt, err);
}

static trueno_features take(const struct file *file)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (from_file(&f, file, &err) != TRUENO_OK) fail_msg("%s", err.message);
    assert_string_equal(err.message, ""); /* not touched: what is missing is no error */
    return f;
}

/* ------------------------------------------------------------------ a usual model */

#define LAYER(n, gate)                                                                             \
    {"blk." n ".attn_norm.weight", TRUENO_TYPE_F32, {256}},                                        \
        {"blk." n ".attn_q.weight", TRUENO_TYPE_Q4_K, {256, 256}},                                 \
        {"blk." n ".attn_k.weight", TRUENO_TYPE_Q4_K, {256, 128}},                                 \
        {"blk." n ".attn_v.weight", TRUENO_TYPE_Q6_K, {256, 128}},                                 \
        {"blk." n ".attn_output.weight", TRUENO_TYPE_Q4_K, {256, 256}},                            \
        {"blk." n ".ffn_norm.weight", TRUENO_TYPE_F32, {256}},                                     \
        {"blk." n ".ffn_gate.weight", gate, {256, 512}},                                           \
        {"blk." n ".ffn_up.weight", TRUENO_TYPE_Q4_K, {256, 512}},                                 \
    {                                                                                              \
        "blk." n ".ffn_down.weight", TRUENO_TYPE_Q6_K,                                             \
        {                                                                                          \
            512, 256                                                                               \
        }                                                                                          \
    }

static const struct tensor usual[] = {
    {"token_embd.weight", TRUENO_TYPE_Q8_0, {256, 1000}},
    {"output_norm.weight", TRUENO_TYPE_F32, {256}},
    LAYER("0", TRUENO_TYPE_Q4_K),
    LAYER("1", TRUENO_TYPE_Q4_K),
    {"output.weight", TRUENO_TYPE_Q6_K, {256, 1000}},
};

enum { USUAL = sizeof usual / sizeof *usual };

static struct file usual_keys(void)
{
    struct file f = begin();
    text(&f, "general.architecture", "llama");
    number(&f, "llama.embedding_length", 256);
    number(&f, "llama.block_count", 2);
    number(&f, "llama.attention.head_count", 4);
    number(&f, "llama.attention.head_count_kv", 2);
    number(&f, "llama.feed_forward_length", 512);
    number(&f, "llama.vocab_size", 999); /* the table of tokens knows better */
    assert_int_equal(trueno_gguf_writer_f32(f.w, "llama.rope.freq_base", 500000), TRUENO_OK);
    return f;
}

/* Per layer Q4_K 36864 + 18432 + 36864 + 2 x 73728, Q6_K 26880 + 107520 bytes, 589824 weights; the
 * output matrix is 210000 bytes, the table 272000. */
static void test_file(void **state)
{
    struct file file = usual_keys();
    static trueno_str tokens[1000];
    (void)state;
    for (size_t i = 0; i < 1000; i++) tokens[i] = (trueno_str){"x", 1};
    trueno_gguf_writer_str_array(file.w, "tokenizer.ggml.tokens", tokens, 1000);
    end(&file, usual, USUAL);
    const trueno_features f = take(&file);
    assert_true(fabs(f.model_params_b * 1e9 - (2 * 589824 + 2 * 256000 + 5 * 256)) < 1e-3);
    assert_true(f.weight_bytes_per_pass == 2 * 374016 + 210000);
    assert_true(f.flops_per_token == TRUENO_UNSET); /* dense: from the geometry */
    assert_int_equal(f.quant, TRUENO_QUANT_Q4_K);   /* 479232 bytes; Q6_K has 478800 */
    assert_true(fabs(f.bits_per_weight - 8.0 * 958032 / 1435648) < 1e-12);
    assert_true(f.quant_group_size == 32 && f.quant_scheme_idx == 4 && f.has_scales == 1);
    assert_true(f.kv_bytes_per_token == 2 * 2 * (64 + 64) * 2); /* layers, heads, F16 */
    assert_true(f.hidden_dim == 256 && f.num_layers == 2 && f.num_heads == 4 && f.kv_heads == 2);
    assert_true(f.head_dim == 64 && f.intermediate_dim == 512 && f.vocab_size == 1000);
    assert_true(f.rope_theta == 500000 && f.tie_embeddings == 0);
    /* how it is used is the caller's */
    assert_true(f.batch_size == TRUENO_UNSET && f.seq_len == TRUENO_UNSET);
    assert_true(f.prompt_tokens == TRUENO_UNSET && f.context_len == TRUENO_UNSET);
    assert_int_equal(f.phase, TRUENO_PHASE_AUTO);
    drop(&file);
}

/* Without an output matrix the table is one, and is multiplied. */
static void test_tied(void **state)
{
    struct file file = usual_keys();
    (void)state;
    end(&file, usual, USUAL - 1);
    const trueno_features f = take(&file);
    assert_true(f.tie_embeddings == 1);
    assert_true(f.weight_bytes_per_pass == 2 * 374016 + 272000);
    assert_true(f.flops_per_token == TRUENO_UNSET); /* dense: from the geometry */
    assert_true(fabs(f.model_params_b * 1e9 - (2 * 589824 + 256000 + 5 * 256)) < 1e-3);
    assert_int_equal(f.quant, TRUENO_QUANT_Q4_K);
    assert_true(f.vocab_size == 999); /* no tokens here: what the key says */
    drop(&file);
}

/* Keys that are not there leave fields unset, and a vector can be made all the same. */
static void test_no_keys(void **state)
{
    struct file file = begin();
    float x[TRUENO_FEATURE_DIM];
    (void)state;
    end(&file, usual, USUAL);
    trueno_features f = take(&file);
    assert_true(f.hidden_dim == TRUENO_UNSET && f.num_layers == TRUENO_UNSET);
    assert_true(f.num_heads == TRUENO_UNSET && f.kv_heads == TRUENO_UNSET);
    assert_true(f.head_dim == TRUENO_UNSET && f.intermediate_dim == TRUENO_UNSET);
    assert_true(f.rope_theta == TRUENO_UNSET && f.kv_bytes_per_token == TRUENO_UNSET);
    assert_true(f.vocab_size == 1000); /* rows of the table */
    assert_true(f.weight_bytes_per_pass == 958032);
    f.gpu_mem_bw_gbs = f.gpu_compute_tflops = f.sm_count = 1;
    assert_int_equal(trueno_features_to_vector(x, &f, NULL), TRUENO_OK);
    drop(&file);
}

/* Layers that differ; keys and values that do, too. */
static void test_layers(void **state)
{
    struct file file = begin();
    (void)state;
    text(&file, "general.architecture", "mixed");
    number(&file, "mixed.embedding_length", 256);
    number(&file, "mixed.block_count", 2);
    numbers(&file, "mixed.attention.head_count", 4, 8);
    numbers(&file, "mixed.attention.head_count_kv", 4, 2);
    numbers(&file, "mixed.feed_forward_length", 768, 512);
    number(&file, "mixed.attention.key_length", 64);
    number(&file, "mixed.attention.value_length", 32);
    end(&file, usual, USUAL);
    const trueno_features f = take(&file);
    assert_true(f.num_heads == 8 && f.kv_heads == 2 && f.head_dim == 64);
    assert_true(f.intermediate_dim == 768);
    assert_true(f.kv_bytes_per_token == (4 + 2) * (64 + 32) * 2);
    drop(&file);
}

/* Of four experts a token goes through two, and one that all share. */
static void test_experts(void **state)
{
    static const struct tensor tensors[] = {
        {"token_embd.weight", TRUENO_TYPE_Q8_0, {256, 100}},
        {"output.weight", TRUENO_TYPE_Q8_0, {256, 100}},
        {"blk.0.ffn_up_exps.weight", TRUENO_TYPE_Q4_0, {256, 128, 4}},
        {"blk.0.ffn_up_shexp.weight", TRUENO_TYPE_Q4_0, {256, 64}},
    };
    struct file file = begin();
    (void)state;
    text(&file, "general.architecture", "moe");
    number(&file, "moe.embedding_length", 256);
    number(&file, "moe.block_count", 1);
    number(&file, "moe.expert_count", 4);
    number(&file, "moe.expert_used_count", 2);
    number(&file, "moe.expert_feed_forward_length", 128);
    number(&file, "moe.expert_shared_feed_forward_length", 64);
    end(&file, tensors, 4);
    const trueno_features f = take(&file);
    assert_true(f.intermediate_dim == 2 * 128 + 64);
    assert_true(f.weight_bytes_per_pass == 27200 + 73728 / 2 + 9216);
    assert_true(f.flops_per_token == 2.0 * (25600 + 131072 / 2 + 16384));
    assert_int_equal(f.quant, TRUENO_QUANT_Q4_0);
    assert_true(fabs(f.bits_per_weight - 8.0 * (27200 + 73728 + 9216) / (25600 + 131072 + 16384)) <
                1e-12);
    drop(&file);
}

/* Half of the weights are F16, half Q4_0: no type has about so many bits. The exact bytes stay. */
static void test_no_type_fits(void **state)
{
    static const struct tensor tensors[] = {
        {"token_embd.weight", TRUENO_TYPE_F16, {256, 400}},
        {"blk.0.ffn_up.weight", TRUENO_TYPE_Q4_0, {256, 400}},
    };
    struct file file = begin();
    (void)state;
    end(&file, tensors, 2);
    const trueno_features f = take(&file);
    assert_int_equal(f.quant, TRUENO_QUANT_F16);
    assert_true(f.bits_per_weight == 16);
    assert_true(f.weight_bytes_per_pass == 204800 + 57600);
    drop(&file);
}

/* --------------------------------------------------------------------- bad files */

static void refuse(struct file *file, const struct tensor *tensors, size_t n, trueno_status want,
                   const char *word)
{
    trueno_features f = TRUENO_FEATURES_INIT, unset = TRUENO_FEATURES_INIT;
    trueno_error err = {TRUENO_OK, ""};
    f.batch_size = 3;
    end(file, tensors, n);
    assert_int_equal(from_file(&f, file, &err), want);
    if (!strstr(err.message, word)) fail_msg("no %s in: %s", word, err.message);
    assert_memory_equal(&f, &unset, sizeof f);
    drop(file);
}

static void test_bad_files(void **state)
{
    static const struct tensor small = {"output.weight", TRUENO_TYPE_F32, {256, 100}};
    static const struct tensor vector = {"output_norm.weight", TRUENO_TYPE_F32, {200000}};
    static const struct tensor other = {
        "output.weight", (trueno_dtype)20, {256, 1000}}; /* IQ4_NL */
    struct file f = usual_keys();
    (void)state;
    refuse(&f, &small, 1, TRUENO_ERR_INVALID_FEATURE, "model_params_b");
    f = usual_keys();
    refuse(&f, &vector, 1, TRUENO_ERR_NOT_FOUND, "matrices");
    f = usual_keys();
    refuse(&f, &other, 1, TRUENO_ERR_UNSUPPORTED, "IQ4_NL");
    f = begin();
    number(&f, "general.architecture", 3);
    refuse(&f, usual, USUAL, TRUENO_ERR_CORRUPT, "general.architecture");

    const char *whole[] = {"embedding_length", "block_count", "vocab_size", "expert_count"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        char key[64];
        f = begin();
        text(&f, "general.architecture", "a");
        snprintf(key, sizeof key, "a.%s", whole[i]);
        text(&f, key, "many");
        refuse(&f, usual, USUAL, TRUENO_ERR_CORRUPT, key);
    }
    const char *layered[] = {"attention.head_count", "attention.head_count_kv",
                             "feed_forward_length"};
    for (size_t i = 0; i < 2 * (sizeof layered / sizeof *layered); i++) {
        char key[64];
        f = begin();
        text(&f, "general.architecture", "a");
        number(&f, "a.block_count", 3);
        snprintf(key, sizeof key, "a.%s", layered[i / 2]);
        if (i % 2)
            numbers(&f, key, 1, 2); /* of three layers */
        else
            text(&f, key, "many");
        refuse(&f, usual, USUAL, TRUENO_ERR_CORRUPT, key);
    }
    f = begin();
    text(&f, "general.architecture", "a");
    number(&f, "a.block_count", 4000000000u);
    refuse(&f, usual, USUAL, TRUENO_ERR_INVALID_FEATURE, "block_count");
    f = begin();
    text(&f, "general.architecture", "a");
    number(&f, "a.embedding_length", 1u << 31);
    refuse(&f, usual, USUAL, TRUENO_ERR_INVALID_FEATURE, "hidden_dim");
    f = begin();
    text(&f, "general.architecture", "a");
    assert_int_equal(trueno_gguf_writer_f32(f.w, "a.rope.freq_base", NAN), TRUENO_OK);
    refuse(&f, usual, USUAL, TRUENO_ERR_INVALID_FEATURE, "rope_theta");
}

/* An architecture's name that no key can begin with is none. */
static void test_long_name(void **state)
{
    char name[2000];
    struct file file = begin();
    (void)state;
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    text(&file, "general.architecture", name);
    end(&file, usual, USUAL);
    assert_true(take(&file).num_layers == TRUENO_UNSET);
    drop(&file);
}

/* ------------------------------------------------------------------- the machine */

static void test_machine(void **state)
{
    trueno_machine m = TRUENO_MACHINE_INIT;
    trueno_features f = TRUENO_FEATURES_INIT;
    (void)state;
    assert_int_equal(trueno_machine_get(ctx, &m, NULL), TRUENO_OK);
    f.batch_size = 9; /* filled anew */
    assert_int_equal(trueno_features_from_env(ctx, &f, NULL, NULL), TRUENO_OK);
    assert_true(f.batch_size == TRUENO_UNSET && f.model_params_b == TRUENO_UNSET);
    assert_int_equal(f.quant, TRUENO_QUANT_UNSET);
    assert_true(f.vram_gb == 0 && f.cuda_graphs == 0 && f.pcie_gen == 0);
    assert_true(f.is_unified_memory == 1);
    assert_true(f.cpu_threads == m.threads);
    assert_true(f.sm_count == (m.usable_cores ? m.usable_cores : TRUENO_UNSET));
    assert_true(f.system_ram_gb == (double)m.ram_bytes / (1 << 30));
    assert_true(f.power_limit == m.power_limit_w);
    assert_true(f.cache_bytes == (m.llc_bytes ? (double)m.llc_bytes : TRUENO_UNSET));
    assert_true(f.numa_nodes == TRUENO_UNSET || f.numa_nodes <= m.threads);
    /* nothing was measured, so nothing is said */
    assert_true(f.gpu_mem_bw_gbs == TRUENO_UNSET && f.gpu_compute_tflops == TRUENO_UNSET);
}

/* Slot 33 by what a context may use. */
static void test_level(void **state)
{
    static const struct {
        const char *level;
        uint32_t matrix, dot;
    } levels[] = {{"ref", 0, 0},
                  {NULL, TRUENO_CPU_AMX_INT8 | TRUENO_CPU_I8MM,
                   TRUENO_CPU_AVX_VNNI | TRUENO_CPU_AVX512_VNNI | TRUENO_CPU_DOTPROD}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
        trueno_features f = TRUENO_FEATURES_INIT;
        trueno_ctx *c;
        opt.cpu = levels[i].level;
        assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
        assert_int_equal(trueno_features_from_env(c, &f, NULL, NULL), TRUENO_OK);
        const uint32_t cpu = trueno_ctx_cpu_features(c);
        assert_true(f.tensor_cores == (cpu & levels[i].matrix ? 2 : cpu & levels[i].dot ? 1 : 0));
        trueno_ctx_free(c);
    }
}

static trueno_machine_profile measured(void)
{
    trueno_machine_profile p = TRUENO_MACHINE_PROFILE_INIT;
    p.n = 3;
    p.points[0] = (trueno_machine_point){1, 20, 500, 100};
    p.points[1] = (trueno_machine_point){2, 30, 1000, 0}; /* no float instruction */
    p.points[2] = (trueno_machine_point){4, 40, 1500, 250};
    p.points[3] = (trueno_machine_point){8, 1, 1, 1}; /* not in use */
    return p;
}

/* Quantised weights are multiplied as integers, others as floats; by as many threads as asked. */
static void test_profile(void **state)
{
    static const struct tensor floats = {"output.weight", TRUENO_TYPE_F16, {256, 1000}};
    const trueno_machine_profile p = measured();
    struct file quantised = usual_keys(), plain = begin();
    (void)state;
    end(&quantised, usual, USUAL);
    end(&plain, &floats, 1);
    const struct {
        const struct file *file;
        uint32_t threads;
        double bandwidth, tflops;
    } cases[] = {{&quantised, 1, 20, 1},  {&quantised, 4, 40, 3}, {&plain, 1, 20, 0.2},
                 {&plain, 4, 40, 0.5},    {&plain, 2, 30, -1},    {&quantised, 2, 30, 2},
                 {&quantised, 3, -1, -1}, {&quantised, 8, -1, -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        trueno_env_options opt = TRUENO_ENV_OPTIONS_INIT;
        trueno_features f = TRUENO_FEATURES_INIT;
        opt.profile = &p;
        opt.gguf = cases[i].file->g;
        opt.threads = cases[i].threads;
        assert_int_equal(trueno_features_from_env(ctx, &f, &opt, NULL), TRUENO_OK);
        assert_true(f.cpu_threads == cases[i].threads);
        assert_true(fabs(f.gpu_mem_bw_gbs - cases[i].bandwidth) < 1e-12);
        assert_true(fabs(f.gpu_compute_tflops - cases[i].tflops) < 1e-12);
        assert_true(f.numa_nodes <= cases[i].threads);
    }
    drop(&quantised);
    drop(&plain);
}

/* What is not measured is refused by name; with a profile the roof is that of the exact bytes. */
static void test_prediction(void **state)
{
    trueno_machine_profile p = measured();
    trueno_env_options opt = TRUENO_ENV_OPTIONS_INIT;
    trueno_features f = TRUENO_FEATURES_INIT;
    trueno_prediction out = TRUENO_PREDICTION_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_regressor *r;
    struct file file = usual_keys();
    (void)state;
    end(&file, usual, USUAL);
    assert_int_equal(trueno_regressor_new(ctx, &r, NULL), TRUENO_OK);
    opt.gguf = file.g;
    opt.threads = 4;
    assert_int_equal(trueno_features_from_env(ctx, &f, &opt, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_predict(r, &out, &f, &err), TRUENO_ERR_INVALID_FEATURE);
    assert_non_null(strstr(err.message, "gpu_mem_bw_gbs"));

    opt.profile = &p;
    assert_int_equal(trueno_features_from_env(ctx, &f, &opt, NULL), TRUENO_OK);
    f.sm_count = 2; /* where the system does not tell */
    f.kv_cache_tokens = 0;
    f.cache_bytes = 1000;
    if (trueno_regressor_predict(r, &out, &f, &err) != TRUENO_OK) fail_msg("%s", err.message);
    assert_false(out.reference_hardware);
    /* 958032 bytes of weights and 1024 of the new token's keys and values at 40 GB/s, all but those
     * that stay in the cache */
    assert_true(fabs(out.roofline_tps / (40e9 / (958032 + 1024 - 1000)) - 1) < 1e-9);
    trueno_regressor_free(r);
    drop(&file);
}

/* A budget measures what the profile lacks, and nothing else. */
static void test_probe(void **state)
{
    trueno_machine_profile p = measured();
    trueno_env_options opt = TRUENO_ENV_OPTIONS_INIT;
    trueno_features f = TRUENO_FEATURES_INIT;
    (void)state;
    opt.threads = 1;
    opt.probe_ms = 1;
    assert_int_equal(trueno_features_from_env(ctx, &f, &opt, NULL), TRUENO_OK);
    assert_true(f.gpu_mem_bw_gbs > 0.01 && f.gpu_mem_bw_gbs < 65535);
    if (trueno_ctx_cpu_features(ctx) & (TRUENO_CPU_AVX2 | TRUENO_CPU_NEON))
        assert_true(f.gpu_compute_tflops > 1e-4 && f.gpu_compute_tflops < 1000);
    opt.profile = &p;
    assert_int_equal(trueno_features_from_env(ctx, &f, &opt, NULL), TRUENO_OK);
    assert_true(f.gpu_mem_bw_gbs == 20 && f.gpu_compute_tflops == 1);
}

static void test_arguments(void **state)
{
    const trueno_features unset = TRUENO_FEATURES_INIT;
    trueno_machine_profile p = measured();
    (void)state;
    assert_int_equal(trueno_features_from_env(ctx, NULL, NULL, NULL), TRUENO_ERR_ARGUMENT);
    for (int i = 0; i < 5; i++) {
        trueno_env_options opt = TRUENO_ENV_OPTIONS_INIT;
        trueno_features f = unset;
        trueno_error err = {TRUENO_OK, ""};
        f.batch_size = 3;
        if (i == 0) opt.device = 0;
        if (i == 1) opt.threads = 1025;
        if (i == 2) opt.struct_size--;
        if (i == 3) opt.profile = &p;
        p.struct_size = 4;
        trueno_status s = trueno_features_from_env(i < 4 ? ctx : NULL, &f, &opt, &err);
        assert_int_equal(s, i == 0 ? TRUENO_ERR_UNSUPPORTED : TRUENO_ERR_ARGUMENT);
        assert_int_equal(err.status, s);
        assert_memory_equal(&f, &unset, sizeof f);
    }
    trueno_features f = unset;
    f.struct_size = 16;
    assert_int_equal(trueno_features_from_env(ctx, &f, NULL, NULL), TRUENO_ERR_ARGUMENT);
    f.struct_size = sizeof f + 8; /* of a newer header */
    assert_int_equal(trueno_features_from_env(ctx, &f, NULL, NULL), TRUENO_OK);
    assert_int_equal(f.struct_size, sizeof f + 8);
}

static void test_no_memory(void **state)
{
    struct hooks h = {0};
    trueno_ctx_options copt = hook_options(&h);
    trueno_env_options opt = TRUENO_ENV_OPTIONS_INIT;
    const trueno_features unset = TRUENO_FEATURES_INIT;
    trueno_features f = unset;
    trueno_ctx *c;
    (void)state;
    assert_int_equal(trueno_ctx_new(&c, &copt, NULL), TRUENO_OK);
    h.fail_at = h.calls + 1; /* without a probe there is nothing to allocate */
    assert_int_equal(trueno_features_from_env(c, &f, &opt, NULL), TRUENO_OK);
    opt.probe_ms = 1;
    assert_int_equal(trueno_features_from_env(c, &f, &opt, NULL), TRUENO_ERR_NO_MEMORY);
    assert_memory_equal(&f, &unset, sizeof f);
    trueno_ctx_free(c);
    assert_int_equal(h.blocks, 0);
}

int main(void)
{
    if (trueno_ctx_new(&ctx, NULL, NULL) != TRUENO_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),      cmocka_unit_test(test_tied),
        cmocka_unit_test(test_no_keys),   cmocka_unit_test(test_layers),
        cmocka_unit_test(test_experts),   cmocka_unit_test(test_no_type_fits),
        cmocka_unit_test(test_bad_files), cmocka_unit_test(test_long_name),
        cmocka_unit_test(test_machine),   cmocka_unit_test(test_level),
        cmocka_unit_test(test_profile),   cmocka_unit_test(test_prediction),
        cmocka_unit_test(test_probe),     cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_no_memory),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    trueno_ctx_free(ctx);
    return rc;
}
