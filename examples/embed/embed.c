/* Stream a signal through a saved net: one line of numbers in, one line of numbers out. */
#define _POSIX_C_SOURCE 200809L

#include "l0gate_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: embed [options] NET [SIGNAL]\n"
    "\n"
    "NET is a file written by l0gate.save. Every line of SIGNAL, or of the standard input, holds\n"
    "the inputs of one time step; its outputs are printed, and the net carries its state on.\n"
    "\n"
    "  --python PYTHON       the python of the environment that holds l0gate; without it the\n"
    "                        one that the variable L0GATE_PYTHON names, else the one that this\n"
    "                        program was built for\n"
    "  --engine ENGINE       numpy (the default) or numba\n"
    "  --second-interpreter  run the net in a second interpreter, beside the first one\n"
    "  --again               stop Python after opening the net, start it again, open it again\n";

#ifndef BUILT_FOR
#define BUILT_FOR NULL
#endif

static int complain(const char *error)
{
    fprintf(stderr, "embed: %s\n", error);
    return 1;
}

/* The numbers of a line: 0, or -1 with a text in `error`. */
static int parse(char *line, long number, float *in, int inputs, char *error)
{
    int count = 0;
    for (char *word = strtok(line, " \t\r\n,"); word != NULL; word = strtok(NULL, " \t\r\n,")) {
        char *end;
        float value = strtof(word, &end);
        if (*end != '\0') {
            snprintf(error, L0GATE_ERROR_SIZE, "line %ld: '%.40s' is no number", number, word);
            return -1;
        }
        if (count < inputs)
            in[count] = value;
        count++;
    }
    if (count == inputs)
        return 0;
    snprintf(error, L0GATE_ERROR_SIZE, "line %ld has %d numbers; the net reads %d per step",
             number, count, inputs);
    return -1;
}

static int stream(l0gate_net *net, FILE *signal, char *error)
{
    int inputs = l0gate_inputs(net), outputs = l0gate_outputs(net), failed = 0;
    float *in = calloc((size_t)inputs, sizeof *in), *out = calloc((size_t)outputs, sizeof *out);
    char *line = NULL, reason[L0GATE_ERROR_SIZE];
    size_t capacity = 0;
    if (in == NULL || out == NULL) {
        snprintf(error, L0GATE_ERROR_SIZE, "no memory");
        failed = -1;
    }
    for (long number = 1; !failed && getline(&line, &capacity, signal) >= 0; number++) {
        failed = parse(line, number, in, inputs, error);
        if (!failed && (failed = l0gate_step(net, in, out, reason)) != 0)
            snprintf(error, L0GATE_ERROR_SIZE, "line %ld: %.900s", number, reason);
        for (int i = 0; !failed && i < outputs; i++)
            printf(i + 1 < outputs ? "%.9g " : "%.9g\n", (double)out[i]);
        fflush(stdout); /* an answer to every line, for whoever waits for it */
    }
    if (!failed && (ferror(signal) || ferror(stdout))) {
        snprintf(error, L0GATE_ERROR_SIZE, "the signal cannot be read, or its outputs written");
        failed = -1;
    }
    free(line);
    free(in);
    free(out);
    return failed;
}

int main(int argc, char **argv)
{
    const char *python = getenv("L0GATE_PYTHON"), *engine = "numpy", *files[2] = {NULL, NULL};
    int second = 0, again = 0, count = 0;
    if (python == NULL)
        python = BUILT_FOR;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--python") == 0 && i + 1 < argc)
            python = argv[++i];
        else if (strcmp(argv[i], "--engine") == 0 && i + 1 < argc)
            engine = argv[++i];
        else if (strcmp(argv[i], "--second-interpreter") == 0)
            second = 1;
        else if (strcmp(argv[i], "--again") == 0)
            again = 1;
        else if (argv[i][0] != '-' && count < 2)
            files[count++] = argv[i];
        else
            return fputs(usage, stderr), 2;
    }
    if (count == 0)
        return fputs(usage, stderr), 2;

    char error[L0GATE_ERROR_SIZE];
    FILE *signal = files[1] == NULL ? stdin : fopen(files[1], "r");
    if (signal == NULL) {
        snprintf(error, sizeof error, "the signal %.900s cannot be opened", files[1]);
        return complain(error);
    }
    if (l0gate_start(python, error) != 0)
        return complain(error);
    int failed = 0;
    l0gate_net *first = l0gate_open(files[0], engine, L0GATE_SHARED, error), *own = NULL;
    failed = first == NULL;
    if (!failed && again) {
        l0gate_close(first);
        first = NULL;
        failed = l0gate_stop(error) != 0 || l0gate_start(python, error) != 0 ||
                 (first = l0gate_open(files[0], engine, L0GATE_SHARED, error)) == NULL;
    }
    if (!failed && second)
        failed = (own = l0gate_open(files[0], engine, L0GATE_OWN, error)) == NULL;
    if (!failed)
        failed = stream(second ? own : first, signal, error) != 0;
    if (failed)
        complain(error);
    l0gate_close(own);
    l0gate_close(first);
    if (l0gate_stop(error) != 0)
        failed = complain(error);
    fclose(signal);
    return failed;
}
