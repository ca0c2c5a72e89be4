"""The retail business as sagas: one file a saga."""
