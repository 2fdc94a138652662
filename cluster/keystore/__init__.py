"""``spacepanda keystore``: make, look at and change the file that a device's keys are in."""
