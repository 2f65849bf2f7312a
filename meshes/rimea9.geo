// The public room of RiMEA's test 9: 30 m x 20 m, two doors of 1 m in each long wall. Metres.
length = 30;  width = 20;
west = 7.5;  east = 22.5;  half = 0.5;  // middles of the doors, half of their width
size = 1.2;  fine = 0.2;  // of cells: on the floor, at the doors

Point(1) = {0, 0, 0};
Point(2) = {west - half, 0, 0};
Point(3) = {west + half, 0, 0};
Point(4) = {east - half, 0, 0};
Point(5) = {east + half, 0, 0};
Point(6) = {length, 0, 0};
Point(7) = {length, width, 0};
Point(8) = {east + half, width, 0};
Point(9) = {east - half, width, 0};
Point(10) = {west + half, width, 0};
Point(11) = {west - half, width, 0};
Point(12) = {0, width, 0};
For k In {1 : 12}
  Line(k) = {k, k % 12 + 1};
EndFor
Curve Loop(1) = {1 : 12};
Plane Surface(1) = {1};
Physical Surface("floor") = {1};
Physical Curve("south-west exit") = {2};
Physical Curve("south-east exit") = {4};
Physical Curve("north-east exit") = {8};
Physical Curve("north-west exit") = {10};
Physical Curve("walls") = {1, 3, 5, 6, 7, 9, 11, 12};

Field[1] = Distance;
Field[1].CurvesList = {2, 4, 8, 10};
Field[1].Sampling = 40;
Field[2] = Threshold;
Field[2].InField = 1;
Field[2].SizeMin = fine;  Field[2].SizeMax = size;  Field[2].DistMin = 0.5;  Field[2].DistMax = 7;
Background Field = 2;
Mesh.MeshSizeExtendFromBoundary = 0;
Mesh.MeshSizeFromPoints = 0;
