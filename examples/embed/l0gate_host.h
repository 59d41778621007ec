/* Run a net saved by l0gate inside a C program, one time step at a time.
 *
 *     char error[L0GATE_ERROR_SIZE];
 *     l0gate_start("/path/to/venv/bin/python", error);
 *     l0gate_net *net = l0gate_open("small.npz", "numpy", L0GATE_SHARED, error);
 *     while (...) l0gate_step(net, in, out, error);
 *     l0gate_close(net);
 *     l0gate_stop(error);
 *
 * Functions that return int give 0, or -1 with a text in `error`: one line of UTF-8, at most
 * L0GATE_ERROR_SIZE bytes with its final zero. Nothing is printed (but a Python library may warn on
 * the standard error), and nothing ends the process.
 *
 * Threads: `l0gate_start` and `l0gate_stop` belong to one thread. Between them every other function
 * may be called from any thread, and takes the interpreter's lock (the GIL) itself; a caller must
 * not hold it. One net must not be used by two threads at once, and one with an interpreter of its
 * own is opened and closed by the same thread.
 */
#ifndef L0GATE_HOST_H
#define L0GATE_HOST_H

#define L0GATE_ERROR_SIZE 1024

typedef struct l0gate_net l0gate_net;

/* Whose modules a net uses: those of the whole process, or those of an interpreter of its own. */
typedef enum { L0GATE_SHARED, L0GATE_OWN } l0gate_interpreter;

/* Start Python. `python` is the python of the virtual environment that holds l0gate. With NULL it
 * is the first python3 on PATH. If the process runs Python already, that one is used. */
int l0gate_start(const char *python, char *error);

/* End Python, if `l0gate_start` began it. All nets must be closed. */
int l0gate_stop(char *error);

/* Load a net. `engine` is "numpy" or "numba". One step is run on zeros, so that what is slow, or
 * fails, does so here. NULL with a text in `error` if it cannot be. */
l0gate_net *l0gate_open(const char *path, const char *engine, l0gate_interpreter interpreter,
                        char *error);

/* Numbers that one step reads and writes. A net that begins with an embedding reads 1: a token. */
int l0gate_inputs(const l0gate_net *net);
int l0gate_outputs(const l0gate_net *net);

/* One time step, from in[inputs] to out[outputs]. After an error the state is what it was before
 * the call, and `out` is not written. */
int l0gate_step(l0gate_net *net, const float *in, float *out, char *error);

/* Back to the state of zeros that a net starts from. */
void l0gate_reset(l0gate_net *net);

/* NULL is allowed. */
void l0gate_close(l0gate_net *net);

#endif
