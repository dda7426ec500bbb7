"""Centring the bright-field disk: disk measurement, policies and episode."""
