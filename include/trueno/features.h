/* SPDX-License-Identifier: MIT */
/** @file features.h
 *  What a run is like, as the tuner (tuner.h) sees it, and how it names kernels.
 *
 *  A `trueno_features` describes one run: a model, how it is used, how its weights are stored and
 * the machine. Fields hold raw values in the units given; TRUENO_UNSET says "not given", and a
 * default is taken. Models see the 42 numbers of trueno_features_to_vector: each raw value through
 * a strictly increasing encoder onto [0, 1]. A value outside an encoder's range is an error, never
 * cut off.
 *
 *     trueno_features f = TRUENO_FEATURES_INIT;
 *     f.model_params_b = 1.5;
 *     f.batch_size = 4;
 *     f.quant = TRUENO_QUANT_Q4_K;
 *     trueno_features_to_vector(x, &f, &err);
 */
#ifndef TRUENO_FEATURES_H
#define TRUENO_FEATURES_H

#include "base.h"
#include "gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ----------------------------------------------------------------- names */

/** How weights are stored. Values are frozen. */
typedef enum trueno_quant {
    TRUENO_QUANT_UNSET = -1, /**< not given: taken as Q4_K */
    TRUENO_QUANT_Q4_0 = 0,
    TRUENO_QUANT_Q4_1 = 1,
    TRUENO_QUANT_Q4_K = 2,
    TRUENO_QUANT_Q5_K = 3,
    TRUENO_QUANT_Q6_K = 4,
    TRUENO_QUANT_Q8_0 = 5,
    TRUENO_QUANT_F16 = 6,
    TRUENO_QUANT_F32 = 7,
    TRUENO_QUANT_Q5_0 = 8,
    TRUENO_QUANT_Q5_1 = 9,
    TRUENO_QUANT_BF16 = 10,
    TRUENO_QUANT_Q2_K = 11,
    TRUENO_QUANT_Q3_K = 12,
    TRUENO_QUANT_COUNT = 13
} trueno_quant;

/** Name as in GGUF tables: "Q4_K"; "unset" for TRUENO_QUANT_UNSET, NULL outside the enum. */
TRUENO_API const char *trueno_quant_name(trueno_quant quant);

/** The tensor type of a quant, and back. @return OK or ERR_NOT_FOUND (out is then F32, UNSET) */
TRUENO_API trueno_status trueno_quant_dtype(trueno_dtype *out, trueno_quant quant);
TRUENO_API trueno_status trueno_quant_from_dtype(trueno_quant *out, trueno_dtype type); /**< back */

/** Family of a kernel: a label that says what kind of kernel runs. Values are frozen. Of the pairs
 * the first serves up to three columns at once, the second more. */
typedef enum trueno_kernel {
    TRUENO_KERNEL_TILED_Q4K = 0,
    TRUENO_KERNEL_COALESCED_Q4K = 1,
    TRUENO_KERNEL_VECTORIZED_Q4K = 2,
    TRUENO_KERNEL_BATCHED_Q4K = 3,
    TRUENO_KERNEL_DP4A_Q4K = 4,
    TRUENO_KERNEL_FUSED_RMS_NORM_Q4K = 5,
    TRUENO_KERNEL_COALESCED_Q6K = 6,
    TRUENO_KERNEL_INCREMENTAL_ATTENTION = 7,
    TRUENO_KERNEL_MULTI_WARP_ATTENTION = 8,
    TRUENO_KERNEL_BATCHED_ATTENTION = 9,
    TRUENO_KERNEL_RMS_NORM = 10,
    TRUENO_KERNEL_VECTORIZED_RMS_NORM = 11,
    TRUENO_KERNEL_BATCHED_RMS_NORM = 12,
    TRUENO_KERNEL_FUSED_QKV_HW_DP4A_Q4K_GEMV = 13,
    TRUENO_KERNEL_GENERIC = 14,
    TRUENO_KERNEL_UNKNOWN = 15,
    TRUENO_KERNEL_VECTORIZED_Q5K = 16,
    TRUENO_KERNEL_BATCHED_Q5K = 17,
    TRUENO_KERNEL_VECTORIZED_Q6K = 18,
    TRUENO_KERNEL_BATCHED_Q6K = 19,
    TRUENO_KERNEL_VECTORIZED_Q8_0 = 20,
    TRUENO_KERNEL_BATCHED_Q8_0 = 21,
    TRUENO_KERNEL_VECTORIZED_Q4_0 = 22,
    TRUENO_KERNEL_BATCHED_Q4_0 = 23,
    TRUENO_KERNEL_VECTORIZED_Q4_1 = 24,
    TRUENO_KERNEL_BATCHED_Q4_1 = 25,
    TRUENO_KERNEL_VECTORIZED_Q5_0 = 26,
    TRUENO_KERNEL_BATCHED_Q5_0 = 27,
    TRUENO_KERNEL_VECTORIZED_Q5_1 = 28,
    TRUENO_KERNEL_BATCHED_Q5_1 = 29,
    TRUENO_KERNEL_VECTORIZED_F16 = 30,
    TRUENO_KERNEL_BATCHED_F16 = 31,
    TRUENO_KERNEL_VECTORIZED_BF16 = 32,
    TRUENO_KERNEL_BATCHED_BF16 = 33,
    TRUENO_KERNEL_VECTORIZED_F32 = 34,
    TRUENO_KERNEL_BATCHED_F32 = 35,
    TRUENO_KERNEL_DEQUANT_BLAS_CPU = 36,
    TRUENO_KERNEL_DEQUANT_BLAS_GPU = 37,
    TRUENO_KERNEL_TENSOR_CORE_QUANT = 38,
    TRUENO_KERNEL_FLASH_DECODE_CPU = 39,
    TRUENO_KERNEL_FLASH_PREFILL_CPU = 40,
    TRUENO_KERNEL_FLASH_ATTENTION_GPU = 41,
    TRUENO_KERNEL_FLASH_DECODE_SPLIT_GPU = 42,
    TRUENO_KERNEL_FUSED_GATE_UP_CPU = 43,
    TRUENO_KERNEL_FUSED_GATE_UP_GPU = 44,
    TRUENO_KERNEL_FUSED_QKV_CPU = 45,
    TRUENO_KERNEL_FUSED_NORM_QUANT_CPU = 46
} trueno_kernel;

/** How many families there are: they are numbered from 0. */
TRUENO_API uint32_t trueno_kernel_count(void);

/** Name of a family, e.g. "BatchedQ4K"; "Unknown" for a number that is none. Static storage. */
TRUENO_API const char *trueno_kernel_name(trueno_kernel kernel);

/** Family by its exact name. @return OK; ERR_NOT_FOUND (out is Unknown) */
TRUENO_API trueno_status trueno_kernel_from_name(trueno_kernel *out, const char *name);

/* -------------------------------------------------------------- features */

/** Numbers of a feature vector. */
#define TRUENO_FEATURE_DIM 42

/** "Not given", for every numeric field. */
#define TRUENO_UNSET (-1.0)

/** Slots of the vector. Values are frozen. */
typedef enum trueno_feature {
    TRUENO_FEATURE_MODEL_PARAMS_B = 0,
    TRUENO_FEATURE_HIDDEN_DIM = 1,
    TRUENO_FEATURE_NUM_LAYERS = 2,
    TRUENO_FEATURE_NUM_HEADS = 3,
    TRUENO_FEATURE_INTERMEDIATE_DIM = 4,
    TRUENO_FEATURE_VOCAB_SIZE = 5,
    TRUENO_FEATURE_KV_HEADS = 6,
    TRUENO_FEATURE_HEAD_DIM = 7,
    TRUENO_FEATURE_ROPE_THETA = 8,
    TRUENO_FEATURE_TIE_EMBEDDINGS = 9,
    TRUENO_FEATURE_BATCH_SIZE = 10,
    TRUENO_FEATURE_SEQ_LEN = 11,
    TRUENO_FEATURE_CONTEXT_LEN = 12,
    TRUENO_FEATURE_KV_CACHE_TOKENS = 13,
    TRUENO_FEATURE_DRAFT_TOKENS = 14,
    TRUENO_FEATURE_PROMPT_TOKENS = 15,
    TRUENO_FEATURE_GENERATED_TOKENS = 16,
    TRUENO_FEATURE_TEMPERATURE = 17,
    TRUENO_FEATURE_TOP_P = 18,
    TRUENO_FEATURE_TOP_K = 19,
    TRUENO_FEATURE_QUANT_Q4_K = 20,
    TRUENO_FEATURE_QUANT_Q5_K = 21,
    TRUENO_FEATURE_QUANT_Q6_K = 22,
    TRUENO_FEATURE_QUANT_Q8_0 = 23,
    TRUENO_FEATURE_QUANT_F16 = 24,
    TRUENO_FEATURE_QUANT_F32 = 25,
    TRUENO_FEATURE_QUANT_GROUP_SIZE = 26,
    TRUENO_FEATURE_BITS_PER_WEIGHT = 27,
    TRUENO_FEATURE_QUANT_SCHEME_IDX = 28,
    TRUENO_FEATURE_HAS_SCALES = 29,
    TRUENO_FEATURE_GPU_MEM_BW_GBS = 30,
    TRUENO_FEATURE_GPU_COMPUTE_TFLOPS = 31,
    TRUENO_FEATURE_SM_COUNT = 32,
    TRUENO_FEATURE_TENSOR_CORES = 33,
    TRUENO_FEATURE_CUDA_GRAPHS = 34,
    TRUENO_FEATURE_PCIE_GEN = 35,
    TRUENO_FEATURE_VRAM_GB = 36,
    TRUENO_FEATURE_CPU_THREADS = 37,
    TRUENO_FEATURE_NUMA_NODES = 38,
    TRUENO_FEATURE_SYSTEM_RAM_GB = 39,
    TRUENO_FEATURE_IS_UNIFIED_MEMORY = 40,
    TRUENO_FEATURE_POWER_LIMIT = 41
} trueno_feature;

/** What a pass does. */
typedef enum trueno_phase {
    TRUENO_PHASE_AUTO = 0,   /**< prefill if there are prompt tokens and none to generate */
    TRUENO_PHASE_DECODE = 1, /**< one new token a sequence (and drafts) */
    TRUENO_PHASE_PREFILL = 2 /**< the prompt */
} trueno_phase;

/** One run, in raw values. Unset fields take the default in brackets; "geometry": that of the real
 * model nearest in size. */
typedef struct trueno_features {
    size_t struct_size;
    double model_params_b;   /**< 10^9 weights of all tensors, 1e-4..16383 [from
                                weight_bytes_per_pass, else unknown] */
    double hidden_dim;       /**< elements [geometry] */
    double num_layers;       /**< [geometry] */
    double num_heads;        /**< 0: no attention [geometry] */
    double intermediate_dim; /**< of the feed-forward; active experts summed [geometry] */
    double vocab_size;       /**< tokens [geometry] */
    double kv_heads;         /**< divides num_heads [geometry] */
    double head_dim;         /**< elements [geometry] */
    double rope_theta;       /**< cannot change the time of a kernel [10000] */
    double tie_embeddings;   /**< flag [0] */
    double batch_size;       /**< sequences that one pass advances, 1..65535 [1] */
    double seq_len;          /**< tokens each sequence attends to at the end of the pass [what the
                                fields below need, at least 1] */
    double context_len;      /**< KV capacity of a sequence in tokens [seq_len] */
    double kv_cache_tokens;  /**< resident before the pass, all sequences [decode: batch x seq_len;
                                prefill: 0] */
    double draft_tokens;     /**< speculative, of a sequence and pass, 0..255 [0] */
    double prompt_tokens;    /**< new ones, of a sequence [0] */
    double generated_tokens; /**< expected [0] */
    double temperature;      /**< cannot change the time of a kernel, 0..255 [0] */
    double top_p;            /**< same, 0..1 [1] */
    double top_k;            /**< same, 0: off [0] */
    trueno_quant quant;      /**< the type that holds most bytes [Q4_K] */
    double quant_group_size; /**< weights that share a scale [of the type] */
    double bits_per_weight;  /**< true mean over the matrices, 0.8..1.6 of nominal [of the type] */
    double quant_scheme_idx; /**< 0 float, 1 block (d), 2 block (d, m), 3 super-block, 4 super-block
                                with minimum [of the type] */
    double has_scales;       /**< flag [of the type] */
    double gpu_mem_bw_gbs;   /**< 10^9 B/s; CPU: read bandwidth measured with cpu_threads [1000] */
    double gpu_compute_tflops; /**< 10^12 op/s, dense; CPU: measured peak of the instruction that
                                  products use, two operations a product [100] */
    double sm_count;           /**< GPU: SMs; CPU: physical cores that may be used [128] */
    double tensor_cores;       /**< 0 none, 1 CPU int8 dot products, 2 CPU matrix unit, 3 GPU, 4 GPU
                                  with FP8 [GPU: 3, CPU: 0] */
    double cuda_graphs;        /**< flag; an error on a CPU [0] */
    double pcie_gen;           /**< 0..16 [GPU: 4, CPU: 0] */
    double vram_gb;           /**< GiB that the device may use; 0 is a run on the CPU, and the three
                                 fields before tensor_cores have no default then [24] */
    double cpu_threads;       /**< that compute [1] */
    double numa_nodes;        /**< that they span [1] */
    double system_ram_gb;     /**< GiB usable; 0: unknown [0] */
    double is_unified_memory; /**< flag: nothing is copied to the device [GPU: 0, CPU: 1] */
    double power_limit;       /**< W; 0: unknown [0] */
    double weight_bytes_per_pass; /**< not in the vector: exact bytes of the weights that a pass
                                     reads */
    double flops_per_token;       /**< not in the vector: exact operations of a token */
    double kv_bytes_per_token; /**< not in the vector: exact bytes of keys and values of a token */
    trueno_phase phase;        /**< not in the vector */
    double cache_bytes; /**< not in the vector: of the last-level cache; of what a pass reads, so
                           much need not come from memory [0] */
} trueno_features;

/** Everything unset. */
#define TRUENO_FEATURES_INIT                                                                       \
    {                                                                                              \
        sizeof(trueno_features), -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, \
            -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, TRUENO_QUANT_UNSET, -1.0, -1.0,  \
            -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0,    \
            -1.0, -1.0, -1.0, TRUENO_PHASE_AUTO, -1.0                                              \
    }

/** How a raw value v becomes a number x of the vector. */
typedef enum trueno_encoder {
    TRUENO_ENCODER_FLAG = 0,   /**< 0 or 1 */
    TRUENO_ENCODER_LINEAR = 1, /**< x = v / scale */
    TRUENO_ENCODER_LOG = 2     /**< x = log2(1 + v / scale) / bits */
} trueno_encoder;

/** What a slot is. */
typedef struct trueno_feature_info {
    const char *name;       /**< as the field of trueno_features; quant_q4_k for slot 20 */
    const char *unit;       /**< of the raw value; "" for plain counts and flags */
    trueno_encoder encoder; /**< see above */
    double scale;           /**< of the encoder */
    double bits;            /**< of LOG, else 0 */
    double min;             /**< smallest valid raw value */
    double max;             /**< largest */
    bool whole;             /**< must be a whole number */
    bool inert;             /**< cannot change the time of a kernel */
} trueno_feature_info;

/** Sets every field to "not given". */
TRUENO_API void trueno_features_init(trueno_features *f);

/** Name of a slot, e.g. "batch_size"; NULL outside 0..41. */
TRUENO_API const char *trueno_feature_name(trueno_feature id);

/** @return OK; ERR_ARGUMENT: out is NULL or id is outside 0..41 */
TRUENO_API trueno_status trueno_feature_info_get(trueno_feature_info *out, trueno_feature id);

/** Sets or reads the field of a slot, for bindings. Slots 20 to 25 are the quant: 1 makes it that
 * type, 0 is refused where it is. `set` checks the slot's own range; get gives TRUENO_UNSET where
 * nothing is set.
 *  @return OK; ERR_ARGUMENT (NULL, no such slot); ERR_INVALID_FEATURE */
TRUENO_API trueno_status trueno_features_set(trueno_features *f, trueno_feature id, double raw,
                                             trueno_error *err);
TRUENO_API trueno_status trueno_features_get(double *raw, const trueno_features *f,
                                             trueno_feature id); /**< reads */

/** Sets the quant, its group, bits and scheme (slots 20 to 29).
 *  @return OK; ERR_ARGUMENT: f is NULL or quant is not in the enum */
TRUENO_API trueno_status trueno_features_set_quant(trueno_features *f, trueno_quant quant);

/** Checks every field and what fields say of one another. The message names field, value and range.
 *  @return OK; ERR_ARGUMENT (NULL, wrong struct_size); ERR_INVALID_FEATURE: NaN, infinite, negative
 * other than TRUENO_UNSET, out of range, not whole, or contradictory */
TRUENO_API trueno_status trueno_features_validate(const trueno_features *f, trueno_error *err);

/** The vector: validates, fills in defaults, encodes. Without a size of the model and without its
 * geometry slots 0 to 7 are 0. No allocation.
 *  @return as trueno_features_validate; x is all 0 on failure */
TRUENO_API trueno_status trueno_features_to_vector(float x[TRUENO_FEATURE_DIM],
                                                   const trueno_features *f, trueno_error *err);

/** The raw values of a vector, all fields set (but slots 0 to 7 where they are 0); whole numbers
 * are rounded: exact up to 2^19, others within 1e-6 or 1. Phase and side fields are unset.
 *  @return OK; ERR_ARGUMENT; ERR_INVALID_FEATURE: a number outside [0, 1], or quant slots that fit
 * no type */
TRUENO_API trueno_status trueno_features_from_vector(trueno_features *f,
                                                     const float x[TRUENO_FEATURE_DIM],
                                                     trueno_error *err);

/** Sequences that one pass advances: batch_size, 1 where it is unset or invalid. */
TRUENO_API uint32_t trueno_features_batch_size(const trueno_features *f);

/** The phase: `phase`, or what the tokens say (TRUENO_PHASE_AUTO). */
TRUENO_API trueno_phase trueno_features_phase(const trueno_features *f);

#ifdef __cplusplus
}
#endif
#endif
