/* SPDX-License-Identifier: MIT */
/* Models that contradict themselves: cases 54 to 67 of the list of malformed input. Each gives its
 * typed status and a message that names the key or tensor; nothing is left allocated. */
#include "model/toy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Loads a toy; expects this status and this word in the message. */
static void expect(const struct toy *t, trueno_status status, const char *word,
                   const trueno_model_options *opt)
{
    trueno_ctx *ctx;
    trueno_gguf_writer *w;
    trueno_error err = {TRUENO_OK, ""};
    trueno_estimate e = TRUENO_ESTIMATE_INIT;
    uint64_t before, after;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    trueno_gguf *g = toy_open(ctx, t, &w);
    trueno_model *m = (trueno_model *)1;
    trueno_ctx_memory(ctx, &before, NULL);
    trueno_status st = trueno_model_load(&m, g, opt, &err);
    if (st != status || (st != TRUENO_OK && strstr(err.message, word) == NULL))
        fail_msg("status %s, expected %s; message \"%s\", expected \"%s\" in it",
                 trueno_status_str(st), trueno_status_str(status), err.message, word);
    if (st == TRUENO_OK) {
        trueno_model_free(m);
    } else {
        assert_null(m);
        assert_int_equal(err.status, status);
        if (status != TRUENO_ERR_NUMERIC) /* what the weights hold is no business of a plan */
            assert_int_equal(trueno_model_estimate(&e, g, NULL, NULL), status);
    }
    trueno_ctx_memory(ctx, &after, NULL);
    assert_int_equal(after, before);
    trueno_gguf_free(g);
    trueno_gguf_writer_free(w);
    trueno_ctx_free(ctx);
}

static void ok(const struct toy *t)
{
    expect(t, TRUENO_OK, "", NULL);
}

/* Replaces key `drop` by what `extra` writes. */
static void with(const char *arch, const char *drop, void (*extra)(trueno_gguf_writer *),
                 trueno_status status, const char *word)
{
    struct toy t = toy_default(arch);
    t.drop_key = drop;
    t.extra_keys = extra;
    expect(&t, status, word, NULL);
}

#define WRITES(name, call)                                                                         \
    static void name(trueno_gguf_writer *w)                                                        \
    {                                                                                              \
        assert_int_equal(call, TRUENO_OK);                                                         \
    }
#define U32(name, key, v) WRITES(name, trueno_gguf_writer_u32(w, key, v))
#define I32(name, key, v) WRITES(name, trueno_gguf_writer_i32(w, key, v))
#define U64(name, key, v) WRITES(name, trueno_gguf_writer_u64(w, key, v))
#define F32(name, key, v) WRITES(name, trueno_gguf_writer_f32(w, key, v))
#define STR(name, key, v) WRITES(name, trueno_gguf_writer_str(w, key, v, sizeof(v) - 1))

U32(arch_number, "general.architecture", 7)
STR(arch_unknown, "general.architecture", "mamba")
STR(arch_percent, "general.architecture", "%s%n%s/../llama")
static void arch_huge(trueno_gguf_writer *w)
{
    size_t n = 1 << 20;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'a', n);
    assert_int_equal(trueno_gguf_writer_str(w, "general.architecture", text, n), TRUENO_OK);
    free(text);
}

static void case_54_architecture(void **state)
{
    (void)state;
    with("llama", "general.architecture", NULL, TRUENO_ERR_NOT_FOUND, "general.architecture");
    with("llama", "general.architecture", arch_number, TRUENO_ERR_CORRUPT, "general.architecture");
    with("llama", "general.architecture", arch_unknown, TRUENO_ERR_UNSUPPORTED, "mamba");
    with("llama", "general.architecture", arch_percent, TRUENO_ERR_UNSUPPORTED, "%s%n%s/../llama");
    with("llama", "general.architecture", arch_huge, TRUENO_ERR_UNSUPPORTED, "aaaa");
}

U64(layers_u64, "llama.block_count", 3)
I32(layers_i32, "llama.block_count", 3)
F32(layers_f32, "llama.block_count", 3.0F)
STR(layers_str, "llama.block_count", "3")
I32(layers_negative, "llama.block_count", -3)
U32(eps_u32, "llama.attention.layer_norm_rms_epsilon", 1)
static void layers_u8(trueno_gguf_writer *w)
{
    uint8_t v[] = {3, 3, 3};
    assert_int_equal(
        trueno_gguf_writer_array(w, "llama.attention.head_count_kv", TRUENO_GGUF_U8, v, 3),
        TRUENO_OK); /* 3 is no divisor of 4 heads: read, then refused for that */
}

static void case_55_numeric_types(void **state)
{
    (void)state;
    with("llama", "block_count", layers_u64, TRUENO_OK, "");
    with("llama", "block_count", layers_i32, TRUENO_OK, "");
    with("llama", "block_count", layers_f32, TRUENO_ERR_CORRUPT, "llama.block_count");
    with("llama", "block_count", layers_str, TRUENO_ERR_CORRUPT, "llama.block_count");
    with("llama", "block_count", layers_negative, TRUENO_ERR_CORRUPT, "llama.block_count");
    with("llama", "attention.layer_norm_rms_epsilon", eps_u32, TRUENO_ERR_CORRUPT, "epsilon");
    with("llama", "attention.head_count_kv", layers_u8, TRUENO_ERR_CORRUPT, "head_count_kv is 3");
}

U32(layers_0, "llama.block_count", 0)
U32(layers_cap, "llama.block_count", 1025)
U32(layers_max, "llama.block_count", UINT32_MAX)

static void case_56_block_count(void **state)
{
    (void)state;
    with("llama", "block_count", NULL, TRUENO_ERR_NOT_FOUND, "llama.block_count");
    with("llama", "block_count", layers_0, TRUENO_ERR_CORRUPT, "llama.block_count");
    with("llama", "block_count", layers_cap, TRUENO_ERR_TOO_LARGE, "llama.block_count");
    with("llama", "block_count", layers_max, TRUENO_ERR_TOO_LARGE, "llama.block_count");
}

U32(heads_0, "llama.attention.head_count", 0)
U32(heads_cap, "llama.attention.head_count", 4097)
U32(kv_0, "llama.attention.head_count_kv", 0)
U32(kv_3, "llama.attention.head_count_kv", 3)
U32(kv_8, "llama.attention.head_count_kv", 8)

static void case_57_head_count(void **state)
{
    (void)state;
    with("llama", "attention.head_count", heads_0, TRUENO_ERR_CORRUPT, "head_count is 0");
    with("llama", "attention.head_count", heads_cap, TRUENO_ERR_TOO_LARGE, "head_count is 4097");
    with("llama", "attention.head_count_kv", kv_0, TRUENO_ERR_CORRUPT, "head_count_kv is 0");
    with("llama", "attention.head_count_kv", kv_3, TRUENO_ERR_CORRUPT, "head_count_kv is 3");
    with("llama", "attention.head_count_kv", kv_8, TRUENO_ERR_CORRUPT, "head_count_kv is 8");
}

U32(embd_0, "llama.embedding_length", 0)
U32(embd_190, "llama.embedding_length", 190)
U32(embd_cap, "llama.embedding_length", (1U << 20) + 1)

static void case_58_embedding_length(void **state)
{
    (void)state;
    with("llama", "embedding_length", embd_0, TRUENO_ERR_CORRUPT, "llama.embedding_length is 0");
    with("llama", "embedding_length", embd_190, TRUENO_ERR_CORRUPT, "llama.embedding_length");
    with("llama", "embedding_length", embd_cap, TRUENO_ERR_TOO_LARGE, "llama.embedding_length");
}

U32(klen_0, "qwen3.attention.key_length", 0)
U32(klen_cap, "qwen3.attention.key_length", 4097)
U32(vlen_32, "qwen3.attention.value_length", 32)
U32(rot_0, "llama.rope.dimension_count", 0)
U32(rot_odd, "llama.rope.dimension_count", 47)
U32(rot_64, "llama.rope.dimension_count", 64)
U32(rot_32, "llama.rope.dimension_count", 32)
U32(phi_rot_odd, "phi3.rope.dimension_count", 31)
U32(phi_rot_32, "phi3.rope.dimension_count", 32)

static void case_59_head_size(void **state)
{
    (void)state;
    with("qwen3", "attention.key_length", klen_0, TRUENO_ERR_CORRUPT, "key_length is 0");
    with("qwen3", "attention.key_length", klen_cap, TRUENO_ERR_TOO_LARGE, "key_length is 4097");
    with("qwen3", "attention.value_length", vlen_32, TRUENO_ERR_UNSUPPORTED, "value_length is 32");
    with("llama", "rope.dimension_count", rot_0, TRUENO_ERR_CORRUPT, "dimension_count is 0");
    with("llama", "rope.dimension_count", rot_odd, TRUENO_ERR_CORRUPT, "dimension_count is 47");
    with("llama", "rope.dimension_count", rot_64, TRUENO_ERR_CORRUPT, "dimension_count is 64");
    with("llama", "rope.dimension_count", rot_32, TRUENO_ERR_UNSUPPORTED, "dimension_count is 32");
    with("phi3", "rope.dimension_count", phi_rot_odd, TRUENO_ERR_CORRUPT, "dimension_count is 31");
    with("phi3", "rope.dimension_count", phi_rot_32, TRUENO_OK, "");
    struct toy t = toy_default("qwen3");
    t.head_dim = 63;
    expect(&t, TRUENO_ERR_CORRUPT, "63", NULL);
}

U32(ff_400, "llama.feed_forward_length", 400)
U32(ff_0, "llama.feed_forward_length", 0)
U32(phi_ff, "phi3.feed_forward_length", 383)

static void case_60_feed_forward_length(void **state)
{
    (void)state;
    with("llama", "feed_forward_length", ff_400, TRUENO_ERR_CORRUPT, "blk.0.ffn_gate.weight");
    with("llama", "feed_forward_length", ff_0, TRUENO_ERR_CORRUPT, "feed_forward_length is 0");
    with("phi3", "feed_forward_length", phi_ff, TRUENO_ERR_CORRUPT, "blk.0.ffn_up.weight");
}

U32(ctx_0, "llama.context_length", 0)
U32(ctx_max, "llama.context_length", UINT32_MAX)

static void case_61_context_length(void **state)
{
    (void)state;
    with("llama", "context_length", ctx_0, TRUENO_ERR_CORRUPT, "context_length is 0");
    with("llama", "context_length", ctx_max, TRUENO_ERR_TOO_LARGE, "context_length is 4294967295");
}

static void kv_array(trueno_gguf_writer *w, uint64_t n, uint32_t second)
{
    uint32_t v[] = {2, second, 2, 2};
    assert_int_equal(
        trueno_gguf_writer_array(w, "llama.attention.head_count_kv", TRUENO_GGUF_U32, v, n),
        TRUENO_OK);
}
static void kv_short(trueno_gguf_writer *w)
{
    kv_array(w, 2, 2);
}
static void kv_long(trueno_gguf_writer *w)
{
    kv_array(w, 4, 2);
}
static void kv_right(trueno_gguf_writer *w)
{
    kv_array(w, 3, 2);
}
static void kv_zero(trueno_gguf_writer *w)
{
    kv_array(w, 3, 0);
}
static void kv_strings(trueno_gguf_writer *w)
{
    const trueno_str v[] = {{"2", 1}, {"2", 1}, {"2", 1}};
    assert_int_equal(trueno_gguf_writer_str_array(w, "llama.attention.head_count_kv", v, 3),
                     TRUENO_OK);
}

static void case_62_per_layer_arrays(void **state)
{
    (void)state;
    with("llama", "attention.head_count_kv", kv_right, TRUENO_OK, "");
    with("llama", "attention.head_count_kv", kv_short, TRUENO_ERR_CORRUPT, "2 elements");
    with("llama", "attention.head_count_kv", kv_long, TRUENO_ERR_CORRUPT, "4 elements");
    with("llama", "attention.head_count_kv", kv_zero, TRUENO_ERR_CORRUPT, "layer 1");
    with("llama", "attention.head_count_kv", kv_strings, TRUENO_ERR_CORRUPT, "head_count_kv");
}

static void reshaped(const char *tensor, uint64_t ne0, uint64_t ne1, trueno_dtype type,
                     trueno_status status)
{
    struct toy t = toy_default("llama");
    t.shape_tensor = tensor;
    t.shape[0] = ne0;
    t.shape[1] = ne1;
    t.shape_type = type;
    expect(&t, status, tensor, NULL);
}

static void case_63_tensors(void **state)
{
    static const char *const needed[] = {"token_embd.weight", "output_norm.weight",
                                         "blk.0.attn_norm.weight", "blk.2.ffn_down.weight",
                                         "blk.1.attn_k.weight"};
    (void)state;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        struct toy t = toy_default("llama");
        t.drop_tensor = needed[i];
        expect(&t, TRUENO_ERR_NOT_FOUND, needed[i], NULL);
    }
    struct toy t = toy_default("qwen2");
    t.drop_tensor = "blk.1.attn_k.bias";
    expect(&t, TRUENO_ERR_NOT_FOUND, "blk.1.attn_k.bias", NULL);
    t = toy_default("llama");
    t.extra_tensor = "something.else";
    ok(&t);
    t.extra_tensor = "blk.0.ffn_up.bias"; /* would have to be added */
    expect(&t, TRUENO_ERR_UNSUPPORTED, "blk.0.ffn_up.bias", NULL);
    t = toy_default("phi3");
    t.rope = "longrope";
    t.drop_tensor = "rope_factors_short.weight";
    expect(&t, TRUENO_ERR_NOT_FOUND, "rope_factors_short.weight", NULL);
    reshaped("blk.0.ffn_up.weight", 384, 192, TRUENO_TYPE_F32, TRUENO_ERR_CORRUPT); /* transposed */
    reshaped("blk.1.attn_norm.weight", 191, 1, TRUENO_TYPE_F32, TRUENO_ERR_CORRUPT);
    reshaped("blk.1.attn_norm.weight", 192, 2, TRUENO_TYPE_F32, TRUENO_ERR_CORRUPT);
    reshaped("output_norm.weight", 192, 1, TRUENO_TYPE_Q8_0, TRUENO_ERR_CORRUPT);
    reshaped("output_norm.weight", 192, 1, TRUENO_TYPE_F16, TRUENO_ERR_CORRUPT);
}

static void case_64_output_and_vocabulary(void **state)
{
    (void)state;
    struct toy t = toy_default("llama");
    t.tied = true;
    ok(&t);
    reshaped("token_embd.weight", 192, 127, TRUENO_TYPE_F32, TRUENO_ERR_CORRUPT);
    reshaped("output.weight", 192, 129, TRUENO_TYPE_F32, TRUENO_ERR_CORRUPT);
    with("llama", "vocab_size", NULL, TRUENO_ERR_NOT_FOUND, "llama.vocab_size");
}

F32(eps_0, "llama.attention.layer_norm_rms_epsilon", 0)
F32(eps_neg, "llama.attention.layer_norm_rms_epsilon", -1e-5F)
F32(eps_nan, "llama.attention.layer_norm_rms_epsilon", NAN)
F32(base_0, "llama.rope.freq_base", 0)
F32(base_neg, "llama.rope.freq_base", -10000)
F32(base_inf, "llama.rope.freq_base", INFINITY)
F32(factor_0, "llama.rope.scaling.factor", 0)
F32(factor_neg, "llama.rope.scaling.factor", -4)
F32(cap_nan, "llama.final_logit_softcapping", NAN)
F32(scale_inf, "llama.attention.scale", INFINITY)
STR(scaling, "llama.rope.scaling.type", "dynamic")

static void case_65_float_ranges(void **state)
{
    (void)state;
    with("llama", "attention.layer_norm_rms_epsilon", eps_0, TRUENO_ERR_CORRUPT, "epsilon");
    with("llama", "attention.layer_norm_rms_epsilon", eps_neg, TRUENO_ERR_CORRUPT, "epsilon");
    with("llama", "attention.layer_norm_rms_epsilon", eps_nan, TRUENO_ERR_CORRUPT, "epsilon");
    with("llama", "attention.layer_norm_rms_epsilon", NULL, TRUENO_ERR_NOT_FOUND, "epsilon");
    with("llama", "rope.freq_base", base_0, TRUENO_ERR_CORRUPT, "freq_base");
    with("llama", "rope.freq_base", base_neg, TRUENO_ERR_CORRUPT, "freq_base");
    with("llama", "rope.freq_base", base_inf, TRUENO_ERR_CORRUPT, "freq_base");
    with("llama", "rope.scaling.factor", factor_0, TRUENO_ERR_CORRUPT, "factor");
    with("llama", "rope.scaling.factor", factor_neg, TRUENO_ERR_CORRUPT, "factor");
    with("llama", "-", cap_nan, TRUENO_ERR_CORRUPT, "softcapping");
    with("llama", "-", scale_inf, TRUENO_ERR_CORRUPT, "attention.scale");
    with("llama", "-", scaling, TRUENO_ERR_UNSUPPORTED, "dynamic");
}

I32(window_neg, "gemma3.attention.sliding_window", -1)
U64(window_huge, "gemma3.attention.sliding_window", 1ULL << 31)
U32(window_0, "gemma3.attention.sliding_window", 0)
U32(experts, "llama.expert_count", 8)
U32(experts_used, "llama.expert_used_count", 2)

static void case_66_window_and_experts(void **state)
{
    (void)state;
    with("gemma3", "attention.sliding_window", NULL, TRUENO_ERR_NOT_FOUND, "sliding_window");
    with("gemma3", "attention.sliding_window", window_neg, TRUENO_ERR_CORRUPT, "sliding_window");
    with("gemma3", "attention.sliding_window", window_huge, TRUENO_ERR_TOO_LARGE, "sliding_window");
    with("gemma3", "attention.sliding_window", window_0, TRUENO_OK, "");
    with("llama", "-", experts, TRUENO_ERR_UNSUPPORTED, "llama.expert_count");
    with("llama", "-", experts_used, TRUENO_ERR_UNSUPPORTED, "llama.expert_used_count");
}

/* NaN among the weights: found when asked; else the logits are NaN and the sampler says so. */
static void case_67_nan_weights(void **state)
{
    static const char *const names[] = {"blk.1.ffn_up.weight", "blk.1.attn_norm.weight",
                                        "token_embd.weight"};
    trueno_model_options check = TRUENO_MODEL_OPTIONS_INIT;
    (void)state;
    check.check_tensors = true;
    for (size_t i = 0; i < 3; i++) {
        struct toy t = toy_default("llama");
        t.type = i == 0 ? TRUENO_TYPE_Q8_0 : TRUENO_TYPE_F16;
        expect(&t, TRUENO_OK, "", &check);
        t.nan_tensor = names[i];
        expect(&t, TRUENO_ERR_NUMERIC, names[i], &check);
        ok(&t);
    }
    struct toy t = toy_default("llama");
    t.nan_tensor = "output_norm.weight";
    trueno_ctx *ctx;
    trueno_session *s;
    trueno_sampler *sampler;
    trueno_token one = 1, chosen;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    trueno_model *m = toy_load(ctx, &t);
    assert_int_equal(trueno_session_new(&s, m, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_session_eval(s, &one, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
    assert_true(isnan(trueno_session_logits(s, -1)[0]));
    assert_int_equal(trueno_sampler_new(ctx, &sampler, t.n_vocab, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_sampler_sample(sampler, &chosen, trueno_session_logits(s, -1)),
                     TRUENO_ERR_NUMERIC);
    trueno_sampler_free(sampler);
    trueno_session_free(s);
    trueno_model_free(m);
    trueno_ctx_free(ctx);
}

static void too_large_for_the_limit(void **state)
{
    struct toy t = toy_default("llama");
    trueno_model_options opt = TRUENO_MODEL_OPTIONS_INIT;
    trueno_error err;
    trueno_gguf_writer *w;
    trueno_model *m;
    trueno_ctx *ctx;
    (void)state;
    opt.max_memory_bytes = 10000;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    trueno_gguf *g = toy_open(ctx, &t, &w);
    assert_int_equal(trueno_model_load(&m, g, &opt, &err), TRUENO_ERR_TOO_LARGE);
    assert_non_null(strstr(err.message, "max_memory_bytes"));
    assert_int_equal(trueno_model_load(NULL, g, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_model_load(&m, NULL, NULL, &err), TRUENO_ERR_ARGUMENT);
    opt.struct_size = 0;
    assert_int_equal(trueno_model_load(&m, g, &opt, &err), TRUENO_ERR_ARGUMENT);
    trueno_gguf_free(g);
    trueno_gguf_writer_free(w);
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_54_architecture),          cmocka_unit_test(case_55_numeric_types),
        cmocka_unit_test(case_56_block_count),           cmocka_unit_test(case_57_head_count),
        cmocka_unit_test(case_58_embedding_length),      cmocka_unit_test(case_59_head_size),
        cmocka_unit_test(case_60_feed_forward_length),   cmocka_unit_test(case_61_context_length),
        cmocka_unit_test(case_62_per_layer_arrays),      cmocka_unit_test(case_63_tensors),
        cmocka_unit_test(case_64_output_and_vocabulary), cmocka_unit_test(case_65_float_ranges),
        cmocka_unit_test(case_66_window_and_experts),    cmocka_unit_test(case_67_nan_weights),
        cmocka_unit_test(too_large_for_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
