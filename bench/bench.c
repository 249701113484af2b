/* SPDX-License-Identifier: MIT */
/* trueno-bench: speed of models, of single kernels ("kernels"), of kernels side by side ("traces"),
 * of the tuner's own calls ("tuner"), and of the machine ("probe"). */
#include "bench_util.h"

#include <string.h>

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "kernels")) return bench_kernels(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "probe")) return bench_probe(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "traces")) return bench_traces(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "tuner")) return bench_tuner(argc - 1, argv + 1);
    return bench_models(argc, argv);
}
