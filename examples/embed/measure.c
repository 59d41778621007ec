/* What embedding costs, for the script in benchmarks/: prints names and values.
 *
 *     measure PYTHON import MODULE            start Python, import a module
 *     measure PYTHON net ENGINE NET STEPS     open a saved net and run it
 *     measure PYTHON code FILE STEPS          run a file that defines step, x and state, and call
 *                                             y, state = step(x, state)
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "l0gate_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double microseconds(void)
{
    static time_t origin; /* near 0 a double resolves nanoseconds */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (origin == 0)
        origin = t.tv_sec;
    return 1e6 * (double)(t.tv_sec - origin) + 1e-3 * (double)t.tv_nsec;
}

/* Resident memory in kB, or -1 where there is no /proc. */
static long resident(void)
{
    char line[200];
    long kb = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmRSS: %ld", &kb) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kb;
}

static int compare(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

static void report_steps(double *times, long steps, long before)
{
    long after = resident();
    qsort(times, (size_t)steps, sizeof *times, compare);
    printf("step_us %.3f\nstep_99_us %.3f\n", times[steps / 2], times[steps * 99 / 100]);
    printf("growth_kb %ld\n", after - before); /* since a tenth of the steps were done */
}

static int run_net(l0gate_net *net, double *times, long steps, char *error)
{
    float *in = calloc((size_t)l0gate_inputs(net), sizeof *in);
    float *out = calloc((size_t)l0gate_outputs(net), sizeof *out);
    int failed = in == NULL || out == NULL;
    long before = 0;
    for (long i = 0; !failed && i < steps; i++) {
        double start = microseconds();
        in[0] = (float)(i % 7);
        failed = l0gate_step(net, in, out, error) != 0;
        times[i] = microseconds() - start;
        if (i == steps / 10)
            before = resident();
    }
    if (!failed)
        report_steps(times, steps, before);
    free(in);
    free(out);
    return failed;
}

static int run_code(PyObject *names, double *times, long steps)
{
    PyObject *step = PyDict_GetItemString(names, "step"), *x = PyDict_GetItemString(names, "x");
    PyObject *state = PyDict_GetItemString(names, "state");
    int failed = step == NULL || x == NULL || state == NULL;
    long before = 0;
    Py_XINCREF(state);
    for (long i = 0; !failed && i < steps; i++) {
        double start = microseconds();
        PyObject *y, *next, *result = PyObject_CallFunctionObjArgs(step, x, state, NULL);
        failed = result == NULL || !PyArg_ParseTuple(result, "OO", &y, &next);
        if (!failed) {
            Py_INCREF(next);
            Py_SETREF(state, next);
        }
        Py_XDECREF(result);
        times[i] = microseconds() - start;
        if (i == steps / 10)
            before = resident();
    }
    Py_XDECREF(state);
    if (!failed)
        report_steps(times, steps, before);
    return failed;
}

static int run_file(const char *path, PyObject *names)
{
    FILE *file = fopen(path, "r");
    PyObject *ran = NULL;
    if (file != NULL)
        ran = PyRun_FileEx(file, path, Py_file_input, names, names, 1);
    Py_XDECREF(ran);
    return ran == NULL;
}

static int measure_net(char **argv, double *times, long steps, char *error)
{
    double start = microseconds();
    l0gate_net *net = l0gate_open(argv[4], argv[3], L0GATE_SHARED, error);
    if (net == NULL)
        return 1;
    printf("ready_ms %.3f\nready_kb %ld\n", 1e-3 * (microseconds() - start), resident());
    int failed = run_net(net, times, steps, error);
    l0gate_close(net);
    return failed;
}

static int measure_python(char **argv, double *times, long steps)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    double start = microseconds();
    PyObject *names = PyDict_New(), *module = NULL;
    int failed = names == NULL ||
                 PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) != 0;
    if (!failed && strcmp(argv[2], "import") == 0)
        failed = (module = PyImport_ImportModule(argv[3])) == NULL;
    else if (!failed)
        failed = run_file(argv[3], names);
    if (!failed)
        printf("ready_ms %.3f\nready_kb %ld\n", 1e-3 * (microseconds() - start), resident());
    if (!failed && steps > 0)
        failed = run_code(names, times, steps);
    if (failed && PyErr_Occurred())
        PyErr_Print();
    Py_XDECREF(module);
    Py_XDECREF(names);
    PyGILState_Release(gil);
    return failed;
}

int main(int argc, char **argv)
{
    char error[L0GATE_ERROR_SIZE] = "failed; measure.c says how it is called";
    const char *what = argc > 2 ? argv[2] : "";
    int net = strcmp(what, "net") == 0 && argc == 6;
    int code = strcmp(what, "code") == 0 && argc == 5;
    int failed = !net && !code && !(strcmp(what, "import") == 0 && argc == 4);
    long steps = net || code ? atol(argv[argc - 1]) : 0;
    double *times = malloc((size_t)(steps + 1) * sizeof *times);
    failed = failed || times == NULL;
    for (long i = 0; !failed && i < steps; i++)
        times[i] = 1; /* written, so that its memory is resident from the beginning */

    double start = microseconds();
    failed = failed || l0gate_start(argv[1], error) != 0;
    if (!failed) {
        printf("start_ms %.3f\nstart_kb %ld\n", 1e-3 * (microseconds() - start), resident());
        failed = net ? measure_net(argv, times, steps, error) : measure_python(argv, times, steps);
    }
    free(times);
    if (failed)
        fprintf(stderr, "measure: %s\n", error);
    return l0gate_stop(error) != 0 || failed;
}
