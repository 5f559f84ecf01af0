"""Next best offers: for one customer at the counter or for millions, by the same code and prices.

A board (``board``) holds the strategies of all live campaigns, prepared once; ``ranking`` orders
what passes its gates by value less the charges of a ``pricebook``; ``reason`` puts it into words;
``why`` tells the whole path of a decision; ``trigger`` turns events into strategies.
"""
