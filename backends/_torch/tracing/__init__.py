"""Derives the layout of a torch model from one run on example inputs.

In reading order:

    labels      axes (sets of neurons), labels of tensors, and uses of parameters
    sizes       numbers in the model's attributes that are sizes of axes
    unlabelled  constants, and tensors that come from parameters or attributes
    tracer      follows one run, call by call, and labels every tensor that carries neurons
    rules/      the propagation rules: what each torch function does with labelled neurons
    derive      turns a finished trace into a layout
    frozen      says which axes are frozen and why, as an error or a warning
"""
