"""Forecasting: a series with a daily and a weekly course is read; told at every step are the values of the day that follows."""
