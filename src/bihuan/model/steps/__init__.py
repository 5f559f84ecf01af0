"""The machinery of the eight steps; :mod:`bihuan.model.pipeline` puts it in order.

``spec`` is the order form. ``binning`` cuts features and measures their information, ``features``
runs steps 1 to 4 and leaves a ``plan``. ``sampling`` draws rows and folds (step 5), ``learner`` and
``calibration`` fit, ``tuning`` chooses (step 6).
"""
