/* Runs one product of kernels.c on another processor than this one, under an emulator: the numbers come from standard input, and the
 * result goes to standard output.
 *
 *     run_kernels FORMAT COUNT ROWS WIDTH < weights, scales, states > out
 */
#include "../../llasa_cli/lm/cpu/kernels.c"
#include <stdio.h>
#include <string.h>

int main(int count_of_arguments, char **arguments) {
    const char *format = arguments[1];
    long count = atol(arguments[2]), rows = atol(arguments[3]), width = atol(arguments[4]);
    int is_int4 = !strcmp(format, "int4") || !strcmp(format, "q4_0");
    long weight_bytes = rows * width / (is_int4 ? 2 : 1), spans = (width + SPAN - 1) / SPAN;
    long scale_bytes = strcmp(format, "int8") ? rows * spans * 2 * LANES : rows * 4;
    char *weights = malloc(weight_bytes + 64), *scales = malloc(scale_bytes + 64);
    float *states = malloc(count * width * 4 + 64), *out = malloc(count * rows * 4);
    if (fread(weights, 1, weight_bytes, stdin) + fread(scales, 1, scale_bytes, stdin) != weight_bytes + scale_bytes) return 1;
    if (fread(states, 4, count * width, stdin) != count * width) return 1;
    if (!strcmp(format, "int8")) multiply_int8(states, (void *)weights, (void *)scales, out, count, rows, width);
    if (!strcmp(format, "int4")) multiply_int4(states, (void *)weights, (void *)scales, out, count, rows, width);
    if (!strcmp(format, "q8_0")) multiply_q8_0(states, (void *)weights, (void *)scales, out, count, rows, width);
    if (!strcmp(format, "q4_0")) multiply_q4_0(states, (void *)weights, (void *)scales, out, count, rows, width);
    return fwrite(out, 4, count * rows, stdout) != count * rows;
}
