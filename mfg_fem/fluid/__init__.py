"""The fluid of a solution, and the laws that its scheme keeps."""
