"""Reading the deployment model: its header and metadata, checked wholly before anything else opens the file.

numpy alone. The way in is `model_file.read_model_info`.
"""
