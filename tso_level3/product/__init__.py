"""The product: data model, tables, exports."""
