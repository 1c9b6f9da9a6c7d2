"""Data: any table, array, folder or data set to batches of tensors, with missing labels anywhere."""
