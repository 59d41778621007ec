#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "l0gate_host.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct l0gate_net {
    PyThreadState *own; /* keeps the net's own interpreter; NULL where it shares the main one */
    PyObject *stream;   /* the net with its state */
    PyObject *step;     /* its bound method */
    PyObject *x;        /* what every step reads: an array that `in` gives access to */
    Py_buffer in;
    int tokens, inputs, outputs;
};

/* Asking the net for its sizes is easier in Python than in C. */
static const char program[] =
    "import l0gate\n"
    "import numpy\n"
    "def open_net(path, engine):\n"
    "    net = l0gate.load(path, engine=engine)\n"
    "    tokens = net.layers[0]['type'] == 'embedding'\n"
    "    if tokens:\n"
    "        x = numpy.zeros((), numpy.int64)\n"
    "    else:\n"
    "        width = net.parameters[net.net.parameter_names[0]].shape[1]\n"
    "        x = numpy.zeros(net.input_kept[1] if net.input_kept else width, numpy.float32)\n"
    "    stream = net.stream()\n"
    "    outputs = stream.step(x).size\n"
    "    stream.state = None\n"
    "    return stream, stream.step, x, tokens, outputs\n";

static PyThreadState *starter; /* of the thread that called l0gate_start; NULL if Python ran */
static int open_nets;          /* guarded by the GIL */

static int fail(char *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, L0GATE_ERROR_SIZE, format, arguments);
    va_end(arguments);
    return -1;
}

static PyObject *raised(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* Turn the exception that is set into one line. */
static int fail_raised(char *error)
{
    PyObject *exception = raised(), *cause;
    if (exception == NULL)
        return fail(error, "Python failed without an exception");
    /* NumPy wraps the one line that says why it does not load into a page of advice. */
    while (PyErr_GivenExceptionMatches(exception, PyExc_ImportError) &&
           (cause = PyException_GetCause(exception)) != NULL) {
        Py_DECREF(exception);
        exception = cause;
    }
    PyObject *text = PyObject_Str(exception);
    PyObject *bytes =
        text == NULL ? NULL : PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    fail(error, "%s: %s", Py_TYPE(exception)->tp_name,
         bytes == NULL ? "(no message)" : PyBytes_AS_STRING(bytes));
    PyObject *prefix = PySys_GetObject("prefix");
    const char *where = prefix == NULL ? NULL : PyUnicode_AsUTF8(prefix);
    size_t used = strlen(error);
    if (PyErr_GivenExceptionMatches(exception, PyExc_ModuleNotFoundError) && where != NULL)
        snprintf(error + used, L0GATE_ERROR_SIZE - used, " in the Python of %s", where);
    Py_XDECREF(bytes);
    Py_XDECREF(text);
    Py_DECREF(exception);
    PyErr_Clear();
    char *end = error;
    for (const char *from = error; *from != '\0'; from++) {
        int space = strchr(" \t\r\n", *from) != NULL;
        if (!space)
            *end++ = *from;
        else if (end > error && end[-1] != ' ')
            *end++ = ' ';
    }
    *end = '\0';
    return -1;
}

/* The right to run Python code in the main interpreter, or in a net's own. */
typedef struct {
    PyGILState_STATE main;
    PyThreadState *own;
} entry;

static entry enter(PyThreadState *own)
{
    entry e = {PyGILState_UNLOCKED, NULL};
    if (own == NULL) {
        e.main = PyGILState_Ensure();
    } else { /* PyGILState knows the main interpreter only; a thread state serves one thread */
        e.own = PyThreadState_New(PyThreadState_GetInterpreter(own));
        PyEval_RestoreThread(e.own);
    }
    return e;
}

static void leave(entry e)
{
    if (e.own == NULL) {
        PyGILState_Release(e.main);
    } else {
        PyThreadState_Clear(e.own);
        PyThreadState_DeleteCurrent();
    }
}

int l0gate_start(const char *python, char *error)
{
    if (Py_IsInitialized())
        return 0;
    if (python != NULL && access(python, X_OK) != 0)
        return fail(error, "there is no Python at %s", python);
    /* Isolated: what the user has in PYTHONPATH or PYTHONHOME is not meant for this program, and
     * signals stay with the host. */
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    PyStatus status = PyStatus_Ok();
    if (python != NULL) /* finds pyvenv.cfg beside it, and so the site-packages */
        status = PyConfig_SetBytesString(&config, &config.executable, python);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        return fail(error, "Python does not start: %s",
                    status.err_msg == NULL ? "no reason given" : status.err_msg);
    starter = PyEval_SaveThread();
    return 0;
}

int l0gate_stop(char *error)
{
    if (starter == NULL)
        return 0;
    PyEval_RestoreThread(starter);
    if (open_nets > 0) {
        starter = PyEval_SaveThread();
        return fail(error, "nets are still open: %d", open_nets);
    }
    starter = NULL;
    if (Py_FinalizeEx() < 0)
        return fail(error, "Python could not write out all it had to");
    return 0;
}

static void release(l0gate_net *net)
{
    if (net->in.obj != NULL)
        PyBuffer_Release(&net->in);
    Py_CLEAR(net->stream);
    Py_CLEAR(net->step);
    Py_CLEAR(net->x);
}

/* In the interpreter that is current: what l0gate_open does. */
static int load(l0gate_net *net, const char *path, const char *engine, char *error)
{
    PyObject *names = PyDict_New(), *ran = NULL, *opened = NULL, *where = NULL;
    if (names != NULL && PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) == 0)
        ran = PyRun_String(program, Py_file_input, names, names);
    if (ran != NULL)
        where = PyUnicode_DecodeFSDefault(path);
    if (where != NULL)
        opened = PyObject_CallFunction(PyDict_GetItemString(names, "open_net"), "Os", where, engine);
    int done = opened != NULL && PyArg_ParseTuple(opened, "OOOpi", &net->stream, &net->step,
                                                  &net->x, &net->tokens, &net->outputs);
    if (done) {
        Py_INCREF(net->stream);
        Py_INCREF(net->step);
        Py_INCREF(net->x);
        done = PyObject_GetBuffer(net->x, &net->in, PyBUF_WRITABLE) == 0;
    }
    if (done)
        net->inputs = (int)(net->in.len / net->in.itemsize);
    else
        fail_raised(error);
    Py_XDECREF(opened);
    Py_XDECREF(where);
    Py_XDECREF(ran);
    Py_XDECREF(names);
    if (!done)
        release(net);
    return done ? 0 : -1;
}

static void end_interpreter(PyThreadState *own)
{
    PyThreadState *here = PyThreadState_Swap(own);
    Py_EndInterpreter(own);
    PyThreadState_Swap(here);
}

l0gate_net *l0gate_open(const char *path, const char *engine, l0gate_interpreter interpreter,
                        char *error)
{
    if (!Py_IsInitialized()) {
        fail(error, "Python is not running");
        return NULL;
    }
    l0gate_net *net = PyMem_RawCalloc(1, sizeof *net);
    if (net == NULL) {
        fail(error, "no memory");
        return NULL;
    }
    entry e = enter(NULL);
    PyThreadState *here = PyThreadState_Get();
    int failed = 0;
    if (interpreter == L0GATE_OWN && (net->own = Py_NewInterpreter()) == NULL)
        failed = fail(error, "Python cannot make another interpreter");
    if (!failed)
        failed = load(net, path, engine, error);
    PyThreadState_Swap(here);
    if (failed && net->own != NULL)
        end_interpreter(net->own);
    open_nets += !failed;
    leave(e);
    if (failed) {
        PyMem_RawFree(net);
        return NULL;
    }
    return net;
}

int l0gate_inputs(const l0gate_net *net) { return net->inputs; }

int l0gate_outputs(const l0gate_net *net) { return net->outputs; }

static int write_input(l0gate_net *net, const float *in, char *error)
{
    if (!net->tokens) {
        memcpy(net->in.buf, in, (size_t)net->in.len);
        return 0;
    }
    /* From 2^24 on, floats no longer tell neighbouring tokens apart. */
    if (!(in[0] >= 0 && in[0] < 16777216.0f) || in[0] != (float)(int64_t)in[0])
        return fail(error, "%g is no token: a whole number from 0 to 16777215", (double)in[0]);
    int64_t token = (int64_t)in[0];
    memcpy(net->in.buf, &token, sizeof token);
    return 0;
}

static int read_output(const l0gate_net *net, PyObject *y, float *out, char *error)
{
    Py_buffer view;
    if (PyObject_GetBuffer(y, &view, PyBUF_ND | PyBUF_FORMAT) < 0) /* contiguous */
        return fail_raised(error);
    int single = strcmp(view.format, "f") == 0, fits = single || strcmp(view.format, "d") == 0;
    fits = fits && view.len == net->outputs * view.itemsize;
    if (fits && single) {
        memcpy(out, view.buf, (size_t)view.len);
    } else if (fits) {
        const double *from = view.buf;
        for (int i = 0; i < net->outputs; i++)
            out[i] = (float)from[i];
    }
    PyBuffer_Release(&view);
    return fits ? 0 : fail(error, "the net returned something else than %d floats", net->outputs);
}

int l0gate_step(l0gate_net *net, const float *in, float *out, char *error)
{
    entry e = enter(net->own);
    int failed = write_input(net, in, error);
    if (!failed) {
        PyObject *y = PyObject_CallOneArg(net->step, net->x);
        failed = y == NULL ? fail_raised(error) : read_output(net, y, out, error);
        Py_XDECREF(y);
    }
    leave(e);
    return failed;
}

void l0gate_reset(l0gate_net *net)
{
    entry e = enter(net->own);
    if (PyObject_SetAttrString(net->stream, "state", Py_None) < 0)
        PyErr_Clear();
    leave(e);
}

void l0gate_close(l0gate_net *net)
{
    if (net == NULL)
        return;
    entry e = enter(net->own);
    release(net);
    leave(e);
    e = enter(NULL);
    if (net->own != NULL)
        end_interpreter(net->own);
    open_nets--;
    leave(e);
    PyMem_RawFree(net);
}
