/* One LSTM or GRU layer as a C programmer would write it: weights by rows, all gates of a neuron in
 * one loop, and the rest left to the compiler. Meant for
 *
 *     cc -O3 -march=native -ffast-math -shared -fPIC recurrent_loop.c -o recurrent_loop.so -lm
 *
 * A layer reads `in` features and has `n` neurons. w (gates * n, in) and u (gates * n, n) are the
 * input and the recurrent matrix, b (gates * n) the bias; gates stand in PyTorch's order.
 */
#include <math.h>
#include <string.h>

typedef const float *restrict in_array;
typedef float *restrict out_array;

/* Steps are not to be merged: in a stream they come one by one. */
#define STEP __attribute__((noinline))

static inline float sigmoid(float a) { return 1.0f / (1.0f + expf(-a)); }

/* Adds four rows times v, the rows `stride` floats apart, to sums. */
static inline void four_rows(int length, in_array m, long stride, in_array v, float sums[4])
{
    float a = 0, b = 0, c = 0, d = 0;
    for (int k = 0; k < length; k++) {
        a += m[k] * v[k];
        b += m[k + stride] * v[k];
        c += m[k + 2 * stride] * v[k];
        d += m[k + 3 * stride] * v[k];
    }
    sums[0] += a, sums[1] += b, sums[2] += c, sums[3] += d;
}

static inline void three_rows(int length, in_array m, long stride, in_array v, float sums[3])
{
    float a = 0, b = 0, c = 0;
    for (int k = 0; k < length; k++) {
        a += m[k] * v[k];
        b += m[k + stride] * v[k];
        c += m[k + 2 * stride] * v[k];
    }
    sums[0] += a, sums[1] += b, sums[2] += c;
}

/* h and c (n) are changed in place; gates (4 * n) is scratch. */
STEP static void lstm_step(int in, int n, in_array w, in_array u, in_array b, in_array x,
                           out_array h, out_array c, out_array gates)
{
    for (int j = 0; j < n; j++) {
        float sums[4] = {b[j], b[j + n], b[j + 2 * n], b[j + 3 * n]};
        four_rows(in, w + (long)j * in, (long)n * in, x, sums);
        four_rows(n, u + (long)j * n, (long)n * n, h, sums);
        for (int gate = 0; gate < 4; gate++)
            gates[j + gate * n] = sums[gate];
    }
    for (int j = 0; j < n; j++) {
        float i = sigmoid(gates[j]), f = sigmoid(gates[j + n]);
        float g = tanhf(gates[j + 2 * n]), o = sigmoid(gates[j + 3 * n]);
        c[j] = f * c[j] + i * g;
        h[j] = o * tanhf(c[j]);
    }
}

/* bn (n) is the bias inside the reset gate's product; gates (4 * n) is scratch. */
STEP static void gru_step(int in, int n, in_array w, in_array u, in_array b, in_array bn, in_array x,
                          out_array h, out_array gates)
{
    for (int j = 0; j < n; j++) {
        float input[3] = {b[j], b[j + n], b[j + 2 * n]}, recurrent[3] = {0, 0, bn[j]};
        three_rows(in, w + (long)j * in, (long)n * in, x, input);
        three_rows(n, u + (long)j * n, (long)n * n, h, recurrent);
        gates[j] = input[0] + recurrent[0];
        gates[j + n] = input[1] + recurrent[1];
        gates[j + 2 * n] = input[2];
        gates[j + 3 * n] = recurrent[2];
    }
    for (int j = 0; j < n; j++) {
        float r = sigmoid(gates[j]), z = sigmoid(gates[j + n]);
        float new = tanhf(gates[j + 2 * n] + r * gates[j + 3 * n]);
        h[j] = new + z * (h[j] - new);
    }
}

/* `steps` steps on x (steps, in), with the outputs in y (steps, n); with `stride` 0 every step reads
 * the same x and writes the same y. */
void lstm(int steps, int stride, int in, int n, in_array w, in_array u, in_array b, in_array x,
          out_array h, out_array c, out_array gates, out_array y)
{
    for (long t = 0; t < steps; t++) {
        lstm_step(in, n, w, u, b, x + t * stride * in, h, c, gates);
        memcpy(y + t * stride * n, h, n * sizeof *h);
    }
}

void gru(int steps, int stride, int in, int n, in_array w, in_array u, in_array b, in_array bn,
         in_array x, out_array h, out_array gates, out_array y)
{
    for (long t = 0; t < steps; t++) {
        gru_step(in, n, w, u, b, bn, x + t * stride * in, h, gates);
        memcpy(y + t * stride * n, h, n * sizeof *h);
    }
}
